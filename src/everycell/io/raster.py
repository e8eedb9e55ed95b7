"""Image files → arrays as stored, before any choice of channels or intensity range."""

from __future__ import annotations

import logging
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import tifffile
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io.pixel_size import tiff_mpp

MAX_VALUES = 3 * 2**30
"""Most values (height x width x channels) read at once; a larger image is an error, never an exhausted memory."""

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PHOTOMETRIC = tifffile.PHOTOMETRIC
# What tifffile and imagecodecs raise on damaged files; imagecodecs' own errors are RuntimeErrors.
_DECODE_ERRORS = (OSError, ValueError, TypeError, LookupError, RuntimeError, EOFError, struct.error, zlib.error)


@dataclass(frozen=True)
class Raster:
    """An image as stored.

    Attributes:
        pixels: [H, W, C], the file's own dtype.
        is_color: the channels are RGB or RGBA samples of one picture, not separate stains.
        palette: uint8 [K, 3], RGB of each value when the pixels are indexes into it, else None.
        white_is_zero: larger values are darker.
        unknown_axis: the channels came from an unnamed axis, so they may be a z or time stack.
        mpp: micrometres per pixel, None when the file does not say it believably.
    """

    pixels: NDArray[Any]
    is_color: bool = False
    palette: NDArray[np.uint8] | None = None
    white_is_zero: bool = False
    unknown_axis: bool = False
    mpp: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), px."""
        return self.pixels.shape[0], self.pixels.shape[1]


def read_raster(path: str | Path) -> Raster:
    """Read a PNG, JPEG, TIFF (OME-TIFF, ImageJ, SVS) or .npy file; its content decides, not its suffix.

    Of a pyramid the full resolution is read, of a file with several images the first.

    Raises:
        DataError: missing, empty, damaged, a z or time stack, too large, or not an image.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        raise DataError(f"cannot open {path}: {error.strerror}; check the path") from error
    if not start:
        raise DataError(f"{path} is empty (0 bytes); copy or export it again")
    try:
        if start[:4] in _TIFF_STARTS:
            return _read_tiff(path)
        if start.startswith(b"\x93NUMPY"):
            return _from_array(np.load(path, allow_pickle=False), path)
        if start.startswith(_PNG_START) and start[24:25] == b"\x10":
            pixels = imagecodecs.png_decode(path.read_bytes())  # Pillow would cut 16-bit colour down to 8
            return _without_alpha(np.atleast_3d(pixels))
        return _read_pillow(path)
    except PIL.UnidentifiedImageError as error:
        raise DataError(f"{path} is not a PNG, JPEG or TIFF image; export it as one of these") from error
    except (*_DECODE_ERRORS, MemoryError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"cannot decode {path}, it is damaged or of an unsupported kind ({reason})") from error


def _from_array(pixels: NDArray[Any], path: Path) -> Raster:
    if pixels.ndim not in (2, 3):
        raise DataError(f"{path}: expected an array [H, W] or [H, W, C], got shape {pixels.shape}")
    pixels = np.atleast_3d(pixels)
    return Raster(pixels, is_color=pixels.shape[2] in (3, 4))


def _without_alpha(pixels: NDArray[Any]) -> Raster:
    """Samples [H, W, 1 … 4] of a PNG: gray, gray + alpha, RGB or RGBA."""
    is_color = pixels.shape[2] >= 3
    return Raster(pixels[..., : 3 if is_color else 1], is_color=is_color)


def _read_pillow(path: Path) -> Raster:
    with _no_pillow_limit(), PIL.Image.open(path, formats=("PNG", "JPEG")) as image:
        _check_size((image.height, image.width, len(image.getbands())), path)
        if image.mode == "P":
            palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            return Raster(np.asarray(image)[..., None], palette=palette)
        samples = image.convert("RGB") if image.mode == "CMYK" else image
        return _without_alpha(np.atleast_3d(np.asarray(samples)))


def _read_tiff(path: Path) -> Raster:
    with _quiet_tifffile(), tifffile.TiffFile(path) as tif:
        if not tif.series:
            raise DataError(f"{path} holds no image; export it again")
        series = tif.series[0]
        page = series.keyframe
        if page.photometric in (_PHOTOMETRIC.SEPARATED, _PHOTOMETRIC.CIELAB):
            raise DataError(f"{path} has {_PHOTOMETRIC(page.photometric).name} colours; export it as RGB")
        channel_axis = _channel_axis(series, path)
        _check_size(series.shape, path)
        _check_complete(tif, series, path)
        pixels = _to_hwc(series.asarray(), series.axes, channel_axis)
        is_gray = page.photometric in (_PHOTOMETRIC.MINISBLACK, _PHOTOMETRIC.MINISWHITE)
        if channel_axis == "S" and is_gray and pixels.shape[2] == 2 and page.extrasamples:
            pixels = pixels[..., :1]  # gray with alpha
        palette = None
        if page.photometric == _PHOTOMETRIC.PALETTE and page.colormap is not None:
            palette = (page.colormap.T >> 8).astype(np.uint8)
        return Raster(
            pixels,
            is_color=channel_axis == "S" and not is_gray and pixels.shape[2] in (3, 4),
            palette=palette,
            white_is_zero=page.photometric == _PHOTOMETRIC.MINISWHITE,
            unknown_axis=channel_axis in ("Q", "I"),
            mpp=tiff_mpp(tif),
        )


def _channel_axis(series: tifffile.TiffPageSeries, path: Path) -> str:
    """Name of the one axis beside Y and X that is longer than 1, "" without one."""
    sizes = {axis: size for axis, size in zip(series.axes, series.shape, strict=True) if axis in "YX" or size > 1}
    others = "".join(axis for axis in sizes if axis not in "YX")
    if others not in ("", "C", "S", "Q", "I"):
        named = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
        raise DataError(f"{path} is a stack with axes {named}, expected one plane; export one z plane or time point")
    return others


def _to_hwc(pixels: NDArray[Any], axes: str, channel_axis: str) -> NDArray[Any]:
    """Bring an array with named axes, of which all but three have length 1, to [H, W, C]."""
    wanted = "YX" + (channel_axis or "C")
    sizes = dict(zip(axes, pixels.shape, strict=True))
    order = [axes.index(axis) for axis in wanted if axis in axes]
    rest = [i for i in range(pixels.ndim) if i not in order]
    return pixels.transpose(order + rest).reshape([sizes.get(axis, 1) for axis in wanted])


def _check_size(shape: Sequence[int], path: Path) -> None:
    if math.prod(shape) > MAX_VALUES:
        size = " × ".join(str(n) for n in shape)
        raise DataError(f"{path} holds {size} values, more than the 3 · 2^30 read at once; export a region of it")


def _check_complete(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    """A cut file would otherwise read as black where its data ends."""
    size = path.stat().st_size
    for page in series.pages:
        if page is None or page.parent is not tif:
            continue  # a plane that is missing, or in another file of a multi-file OME-TIFF
        end = max(
            (start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)), default=0
        )
        if end > size:
            raise DataError(f"{path} is cut off: {size} bytes of at least {end}; copy or export it again")


@contextmanager
def _no_pillow_limit() -> Iterator[None]:
    """Pillow refuses images of 180 Mpx; stitched ones are larger, and we check the size ourselves."""
    before = PIL.Image.MAX_IMAGE_PIXELS
    PIL.Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _quiet_tifffile() -> Iterator[None]:
    """Silence what tifffile logs and also raises, or what we check ourselves; a user shall see one line, not two."""
    logger = logging.getLogger("tifffile")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
