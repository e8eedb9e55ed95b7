"""Image files and arrays → `Image`: 8-bit RGB with its physical size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io.raster import read_raster
from everycell.structures import Image

DARK_PERCENTILE, BRIGHT_PERCENTILE = 1.0, 99.8


def read_image(path: str | Path, *, channels: Sequence[int] | None = None) -> Image:
    """Read a PNG, JPEG, TIFF (OME-TIFF and SVS included, full resolution) or .npy image as 8-bit RGB.

    8-bit values stay as they are. Other values are stretched so that percentile 1 becomes 0 and percentile 99.8
    becomes 255: over the three colours together for an RGB picture, so that hue stays, and for each channel alone
    where channels are stains. Minimum and maximum stand in when both percentiles agree; a constant image becomes 0.

    Args:
        path: the file.
        channels: one to three channel numbers, counted from 1 as in Fiji and QuPath, that become red, green and blue;
            one alone becomes gray, and of two the blue stays black. Needed for 2, or more than 3, stains.

    Returns:
        uint8 [H, W, 3] with µm/px where the file says it believably; PNG and JPEG never do.

    Raises:
        DataError: the file cannot be read, is a stack, has NaN pixels, or its channels must be chosen.
    """
    raster = read_raster(path)
    pixels, is_color = raster.pixels, raster.is_color
    if raster.palette is not None:
        pixels, is_color = _apply_palette(pixels[..., 0], raster.palette), True
    if raster.white_is_zero and pixels.dtype.kind in "bu":
        pixels = ~pixels
    if raster.unknown_axis and channels is None:
        n, height, width = pixels.shape[2], *pixels.shape[:2]
        raise DataError(
            f"{path} is a stack of {n} planes of {height} × {width} px on an unnamed axis; "
            f"if they are channels choose some with --channels (1 to {n}), else export one plane"
        )
    return Image(_to_rgb(pixels, is_color, channels, str(path)), raster.mpp)


def to_image(array: NDArray[Any], *, mpp: float | None = None, channels: Sequence[int] | None = None) -> Image:
    """Turn an array [H, W] or [H, W, C] into an `Image`, by the rules of `read_image`.

    Args:
        array: boolean, integer or float values; three or four channels are taken for RGB and RGBA.
        mpp: micrometres per pixel, if known.
        channels: as in `read_image`, counted from 1.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3):
        raise DataError(f"expected an array [H, W] or [H, W, C], got shape {array.shape}; give one plane")
    pixels = np.atleast_3d(array)
    return Image(_to_rgb(pixels, pixels.shape[2] in (3, 4), channels, f"the array of shape {array.shape}"), mpp)


def _apply_palette(indexes: NDArray[Any], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    full = np.zeros((max(len(palette), int(indexes.max(initial=0)) + 1), 3), np.uint8)
    full[: len(palette)] = palette
    rgb: NDArray[np.uint8] = full[indexes]
    return rgb


def _to_rgb(pixels: NDArray[Any], is_color: bool, channels: Sequence[int] | None, where: str) -> NDArray[np.uint8]:
    """Pixels [H, W, C] of any real dtype to uint8 [H, W, 3]."""
    if not pixels.size:
        raise DataError(f"{where} has no pixels")
    if pixels.dtype.kind not in "buif":
        raise DataError(f"{where} has values of type {pixels.dtype}; expected integers or real numbers")
    n = pixels.shape[2]
    if channels is not None:
        if not 1 <= len(channels) <= 3 or not all(1 <= c <= n for c in channels):
            raise DataError(f"{where}: expected one to three channels between 1 and {n}, got {list(channels)}")
        pixels, is_color = pixels[..., [c - 1 for c in channels]], False
    elif is_color:
        pixels = pixels[..., :3]
    elif n not in (1, 3):
        raise DataError(f"{where} has {n} channels; choose up to three of them with --channels (1 to {n})")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError(f"{where} has NaN pixels or infinite ones; replace them, e.g. by 0")
    scaled = _to_uint8(pixels, joint=is_color)
    if scaled.shape[2] == 1:
        scaled = scaled.repeat(3, axis=2)
    elif scaled.shape[2] == 2:
        scaled = np.concatenate([scaled, np.zeros_like(scaled[..., :1])], axis=2)
    return np.ascontiguousarray(scaled)


def _to_uint8(pixels: NDArray[Any], *, joint: bool) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if joint:
        return _stretch(pixels)
    return np.stack([_stretch(pixels[..., i]) for i in range(pixels.shape[2])], axis=2)


def _stretch(values: NDArray[Any]) -> NDArray[np.uint8]:
    dark, bright = np.percentile(values, (DARK_PERCENTILE, BRIGHT_PERCENTILE))
    if bright <= dark:
        dark, bright = float(values.min()), float(values.max())
    if bright <= dark:
        return np.zeros(values.shape, np.uint8)
    scaled = (values.astype(np.float64) - dark) * (255 / (bright - dark))
    rounded: NDArray[np.uint8] = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return rounded
