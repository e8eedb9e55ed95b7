"""Image files → arrays as stored, before any choice of channels or intensity range."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io.decoding import decoding
from everycell.io.stored import StoredImage, check_fits, from_array, whole_window
from everycell.io.tiff import TIFF_STARTS, open_tiff

_PNG_START, _JPEG_START, _NPY_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\x93NUMPY"
_VSI_SUFFIX = ".vsi"  # the file itself is a TIFF of the label; the slide lies in .ets files in a folder beside it
_MIRAX_SUFFIX = ".mrxs"  # the file itself is a JPEG preview; the slide lies in the folder beside it


@dataclass(frozen=True)
class Raster:
    """An image as stored.

    Attributes:
        pixels: [H, W, C], the file's own values; of a palette image the indexes.
        mpp: micrometres per pixel, None when the file does not say it believably.
    """

    pixels: NDArray[Any]
    mpp: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), px."""
        return self.pixels.shape[0], self.pixels.shape[1]


def read_raster(path: str | Path) -> Raster:
    """Read an image of any kind that `open_stored` knows, whole and at full resolution.

    Raises:
        DataError: missing, empty, damaged, a z or time stack, too large, or not an image.
    """
    path = Path(path)
    stored = open_stored(path)
    try:
        finest = stored.levels[0]
        check_fits(finest.shape, stored.name)
        with decoding(stored.name):
            return Raster(finest.read(whole_window(finest.shape), range(stored.n_channels)), stored.mpp)
    finally:
        stored.close()


def open_stored(path: Path) -> StoredImage:
    """Open a TIFF, OME-Zarr, slide, .npy, PNG or JPEG; its content decides, not its suffix.

    Of a file with several images the first is opened. PNG and JPEG are decoded at once, the others when they are read.

    Raises:
        DataError: missing, empty, damaged, a z or time stack, or not an image.
    """
    if path.is_dir():
        return _open_folder(path)
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        raise DataError(f"cannot open {path}: {error.strerror}; check the path") from error
    if path.suffix.lower() == _MIRAX_SUFFIX:
        return _open_slide(path)
    if not start:
        raise DataError(f"{path} is empty (0 bytes); copy or export it again")
    if path.suffix.lower() == _VSI_SUFFIX:
        raise DataError(
            f"{path} is a slide of Olympus, whose .ets files are not read; export it as OME-TIFF with QuPath"
        )
    if start[:4] in TIFF_STARTS:
        return _open_slide(path) if _is_slide(path) else open_tiff(path)
    with decoding(str(path)):
        if start.startswith(_NPY_START):
            return from_array(lambda: np.load(path, mmap_mode="r", allow_pickle=False), str(path))
        if start.startswith(_PNG_START) and start[24:25] == b"\x10":
            return _samples(imagecodecs.png_decode(path.read_bytes()), path)  # Pillow would cut 16-bit colour to 8
        if start.startswith((_PNG_START, _JPEG_START)):
            return _open_pillow(path)
    if _is_slide(path):
        return _open_slide(path)
    raise DataError(
        f"{path} is not a PNG, JPEG or TIFF image, nor a slide that OpenSlide knows; "
        "export it as OME-TIFF, for example with QuPath"
    )


def is_zarr(path: Path) -> bool:
    """Whether a path is the folder of a Zarr group or array."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def _open_folder(path: Path) -> StoredImage:
    if not is_zarr(path):
        raise DataError(f"cannot open {path}: it is a folder, and no OME-Zarr; name an image file")
    from everycell.io.ome_zarr import open_ome_zarr

    return open_ome_zarr(path)


def _is_slide(path: Path) -> bool:
    from everycell.io.slides import is_slide

    return is_slide(path)


def _open_slide(path: Path) -> StoredImage:
    from everycell.io.slides import open_slide

    return open_slide(path)


def _samples(pixels: NDArray[Any], path: Path) -> StoredImage:
    """Samples [H, W] or [H, W, 1 … 4] of a PNG: gray, gray + alpha, RGB or RGBA; alpha is left out."""
    pixels = np.atleast_3d(pixels)
    kept = pixels[..., : 3 if pixels.shape[2] >= 3 else 1]
    return from_array(lambda: kept, str(path))


def _open_pillow(path: Path) -> StoredImage:
    with _no_pillow_limit(), PIL.Image.open(path, formats=("PNG", "JPEG")) as image:
        check_fits((image.height, image.width, len(image.getbands())), str(path))
        if image.mode == "P":
            palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            return replace(_samples(np.asarray(image), path), palette=palette)
        return _samples(np.asarray(image.convert("RGB") if image.mode == "CMYK" else image), path)


@contextmanager
def _no_pillow_limit() -> Iterator[None]:
    """Pillow refuses images of 180 Mpx; stitched ones are larger, and we check the size ourselves."""
    before = PIL.Image.MAX_IMAGE_PIXELS
    PIL.Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = before
