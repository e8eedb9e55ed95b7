"""`ImageSource`: an image of any size, read window by window as 8-bit RGB."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io.decoding import decoding
from everycell.io.raster import open_stored
from everycell.io.resample import resample
from everycell.io.rgb import Limits, RgbRule
from everycell.io.stored import Level, StoredImage, Window, from_array
from everycell.structures import Image

MAX_SAMPLE_PX = 2**23
MAX_PASS_PX = 2**28
BAND_PX = 2**22
_MIN_BAND_ROWS = 16


class ImageSource(Protocol):
    """An image whose size does not matter. A context manager; safe to read from several threads."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) at full resolution, px."""
        ...

    @property
    def mpp(self) -> float | None:
        """Micrometres per pixel at full resolution, None when unknown."""
        ...

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Pixels of a window at full resolution.

        Args:
            window: (x0, y0, x1, y1), px, inside the image and not empty.

        Returns:
            uint8 [h, w, 3], RGB, by the rules of `everycell.io.read_image`.

        Raises:
            DataError: the window is empty or leaves the image, or its pixels are damaged, NaN or infinite. Other
                windows can be read all the same.
        """
        ...

    def read_at(self, window: Window, factor: float) -> NDArray[np.uint8]:
        """A window resized to `factor` new px per px of the full resolution.

        Taken from the coarsest level of a pyramid that is not coarser than the result, and resized as by
        `everycell.transforms.zoom_image`.

        Returns:
            uint8 [h, w, 3], sides `max(1, round(side * factor))`.

        Raises:
            DataError: as `read`.
        """
        ...

    def overview(self) -> NDArray[np.uint8]:
        """Every n-th pixel of every n-th row, uint8 [h, w, 3]: the colours of the whole image, for contrast limits.

        The image itself where it has at most 2^23 px, else about that many. Of a pyramid over 2^28 px a coarser level
        stands in. Reads through the image once; rows that are damaged are left out, as reading them tells.

        Raises:
            DataError: nothing can be read.
        """
        ...

    def close(self) -> None:
        """Let the file go."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def open_source(image: Any, *, channels: Sequence[int] | None = None, mpp: float | None = None) -> ImageSource:
    """Open an image of any size and kind; its content decides how it is read.

    Args:
        image: a path of a TIFF, OME-Zarr, slide, .npy, PNG or JPEG; a Zarr group or array; an `Image`; or an array
            [H, W] or [H, W, C], where three or four channels are taken for RGB and RGBA.
        channels: as in `everycell.io.read_image`, counted from 1.
        mpp: micrometres per pixel, in place of what the file says.

    Returns:
        A source that can be pickled: a file is opened again on the other side.

    Raises:
        DataError: the image cannot be opened, is a stack, or its channels must be chosen.
    """
    return _Source(image, channels, mpp)


class _Source:
    """The one `ImageSource`: whatever the file is, its levels look alike."""

    def __init__(
        self, image: Any, channels: Sequence[int] | None, mpp: float | None, limits: Limits | None = None
    ) -> None:
        self._image, self._channels, self._limits = image, channels, limits
        self._lock = threading.Lock()
        self._stored = _open(image)
        self.name, self.size = self._stored.name, self._stored.size
        self.mpp = self._stored.mpp if mpp is None else mpp
        try:
            self._rule = RgbRule(self._stored, channels)
        except DataError:
            self.close()
            raise

    def __reduce__(self) -> tuple[type[_Source], tuple[Any, ...]]:
        image = Path(self._image).absolute() if isinstance(self._image, (str, Path)) else self._image
        return _Source, (image, self._channels, self.mpp, self._find_limits())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stored.close()

    def read(self, window: Window) -> NDArray[np.uint8]:
        self._check(window)
        return self._read(self._stored.levels[0], window)

    def read_at(self, window: Window, factor: float) -> NDArray[np.uint8]:
        self._check(window)
        assert factor > 0, factor
        number = self._stored.level_for(factor)
        level, (down_y, down_x) = self._stored.levels[number], self._stored.downsample(number)
        x0, y0, x1, y1 = window
        left, top, right, bottom = x0 / down_x, y0 / down_y, x1 / down_x, y1 / down_y
        # The last pixels of the image may lie beyond a coarser level, whose sides are rounded.
        height, width = level.shape[:2]
        start_x, start_y = min(int(left), width - 1), min(int(top), height - 1)
        stop_x, stop_y = math.ceil(right), math.ceil(bottom)
        pixels = self._read(level, (start_x, start_y, min(stop_x, width), min(stop_y, height)))
        beyond = ((0, max(0, stop_y - height)), (0, max(0, stop_x - width)), (0, 0))
        if any(after for _, after in beyond):
            pixels = np.pad(pixels, beyond, mode="edge")
        size = max(1, round((y1 - y0) * factor)), max(1, round((x1 - x0) * factor))
        return resample(pixels, (left - start_x, top - start_y, right - start_x, bottom - start_y), size)

    def overview(self) -> NDArray[np.uint8]:
        sample = self._sample()
        return self._rule.to_rgb(sample, self._limits)

    def _check(self, window: Window) -> None:
        x0, y0, x1, y1 = window
        height, width = self.size
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise DataError(
                f"{self.name}: the region {x0}, {y0}, {x1}, {y1} (x0, y0, x1, y1) must hold a pixel and lie inside "
                f"0, 0, {width}, {height}"
            )

    def _read(self, level: Level, window: Window) -> NDArray[np.uint8]:
        with decoding(self.name):
            return self._rule.to_rgb(self._rule.read(level, window), self._find_limits())

    def _find_limits(self) -> Limits | None:
        with self._lock:
            if self._rule.needs_limits and self._limits is None:
                self._sample()
            return self._limits

    def _sample(self) -> NDArray[Any]:
        """Every n-th value of every n-th row, [h, w, C]; finds the limits on the way."""
        sizes = [level.shape[0] * level.shape[1] for level in self._stored.levels]
        level = self._stored.levels[next((i for i, px in enumerate(sizes) if px <= MAX_PASS_PX), -1)]
        height, width, _ = level.shape
        step = math.ceil(math.sqrt(height * width / MAX_SAMPLE_PX))
        rows = max(1, BAND_PX // width // step) * step
        parts, least, largest, errors = [], [], [], []
        bands = [(y, min(y + rows, height)) for y in range(0, height, rows)]
        while bands:
            top, bottom = bands.pop(0)
            try:
                with decoding(self.name):
                    values = self._rule.read(level, (0, top, width, bottom))
            except DataError as error:  # whoever reads these rows is told
                errors.append(error)
                middle = top + (bottom - top) // 2 // step * step
                if middle - top >= _MIN_BAND_ROWS:
                    bands[:0] = [(top, middle), (middle, bottom)]
                continue
            parts.append(values[::step, ::step].copy())
            if self._rule.needs_limits:
                least.append(values.min(axis=(0, 1)))
                largest.append(values.max(axis=(0, 1)))
        if not parts:
            raise errors[0]
        sample = np.concatenate(parts)
        if self._rule.needs_limits and self._limits is None:
            flat = sample.reshape(-1, sample.shape[2])
            self._limits = self._rule.limits(flat, np.min(least, axis=0), np.max(largest, axis=0))
        return sample


def _open(image: Any) -> StoredImage:
    if isinstance(image, (str, Path)):
        return open_stored(Path(image))
    if type(image).__module__.split(".")[0] == "zarr":
        from everycell.io.ome_zarr import open_ome_zarr

        return open_ome_zarr(image)
    if isinstance(image, Image):
        return replace(_open(image.pixels), mpp=image.mpp)
    array = np.asarray(image)
    return from_array(lambda: array, f"the array of shape {array.shape}")
