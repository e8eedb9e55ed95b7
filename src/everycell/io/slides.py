"""Whole slides of the vendors that OpenSlide knows, as `StoredImage`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import PIL.Image
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io.pixel_size import believable_mpp
from everycell.io.stored import StoredImage, Window, as_index


def is_slide(path: Path) -> bool:
    """Whether OpenSlide knows the vendor of this file; a tiled TIFF of no vendor is none."""
    return openslide.OpenSlide.detect_format(path) not in (None, "generic-tiff")


def open_slide(path: Path) -> StoredImage:
    """Open a slide; what was not scanned takes the slide's background colour, white where it names none.

    Raises:
        DataError: OpenSlide cannot read it.
    """
    handle = _Handle(path)
    slide = handle.slide
    levels = tuple(_SlideLevel(handle, number) for number in range(slide.level_count))
    mpp = believable_mpp(*(slide.properties.get(f"openslide.mpp-{axis}") for axis in "xy"))
    return StoredImage(str(path), levels, is_color=True, mpp=mpp, close=handle.close)


class _Handle:
    """An open slide. OpenSlide refuses all further reading after one error, so the file is then opened anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.slide = self._open()
        self._lock = threading.Lock()

    def close(self) -> None:
        self.slide.close()

    def read(self, x: int, y: int, level: int, size: tuple[int, int]) -> PIL.Image.Image:
        slide = self.slide
        try:
            return slide.read_region((x, y), level, size)
        except openslide.OpenSlideError as error:
            with self._lock:
                if self.slide is slide:
                    self.slide = self._open()
            raise DataError(
                f"cannot decode {self.path}, level {level}: the piece of {size[1]} × {size[0]} px at row {y}, "
                f"column {x}: {_reason(error)}"
            ) from error

    def _open(self) -> openslide.OpenSlide:
        try:
            return openslide.OpenSlide(self.path)
        except (openslide.OpenSlideError, OSError) as error:
            raise DataError(
                f"OpenSlide cannot open {self.path} ({_reason(error)}); copy it again with all its files, "
                "or export it as OME-TIFF"
            ) from error


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


class _SlideLevel:
    """One resolution of a slide: RGB."""

    dtype = np.dtype(np.uint8)

    def __init__(self, handle: _Handle, number: int) -> None:
        slide = handle.slide
        width, height = slide.level_dimensions[number]
        self.shape = height, width, 3
        self._handle, self._number, self._downsample = handle, number, slide.level_downsamples[number]
        self._background = "#" + slide.properties.get("openslide.background-color", "FFFFFF")

    def read(self, window: Window, channels: Sequence[int]) -> NDArray[Any]:
        """As `Level.read`."""
        x0, y0, x1, y1 = window
        # OpenSlide wants the corner in px of the full resolution, by its own idea of how much larger that is.
        corner = round(x0 * self._downsample), round(y0 * self._downsample)
        region = self._handle.read(*corner, self._number, (x1 - x0, y1 - y0))
        if region.getchannel("A").getextrema() != (255, 255):
            flat = PIL.Image.new("RGB", region.size, self._background)
            flat.paste(region, mask=region)
            region = flat
        return np.asarray(region)[..., as_index(channels)]
