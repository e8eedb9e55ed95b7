"""Image files and arrays → `Image`: 8-bit RGB with its physical size, whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everycell.io.sources import open_source
from everycell.io.stored import check_fits, whole_window
from everycell.structures import Image


def read_image(path: str | Path, *, channels: Sequence[int] | None = None) -> Image:
    """Read an image of any kind that `open_source` knows as 8-bit RGB, whole and at full resolution.

    8-bit values stay as they are. Other values are stretched so that percentile 1 becomes 0 and percentile 99.8
    becomes 255: over the three colours together for an RGB picture, so that hue stays, and for each channel alone
    where channels are stains. Minimum and maximum stand in when both percentiles agree; a constant image becomes 0.
    Of an image over 2^23 px the percentiles are those of every n-th pixel of every n-th row.

    Args:
        path: the file, or the folder of an OME-Zarr.
        channels: one to three channel numbers, counted from 1 as in Fiji and QuPath, that become red, green and blue;
            one alone becomes gray, and of two the blue stays black. Needed for 2, or more than 3, stains.

    Returns:
        uint8 [H, W, 3] with µm/px where the file says it believably; PNG and JPEG never do.

    Raises:
        DataError: the file cannot be read, is a stack, has NaN pixels, or its channels must be chosen.
    """
    return _read_whole(Path(path), None, channels)


def to_image(array: NDArray[Any], *, mpp: float | None = None, channels: Sequence[int] | None = None) -> Image:
    """Turn an array [H, W] or [H, W, C] into an `Image`, by the rules of `read_image`.

    Args:
        array: boolean, integer or float values; three or four channels are taken for RGB and RGBA.
        mpp: micrometres per pixel, if known.
        channels: as in `read_image`, counted from 1.
    """
    return _read_whole(np.asarray(array), mpp, channels)


def _read_whole(image: Path | NDArray[Any], mpp: float | None, channels: Sequence[int] | None) -> Image:
    with open_source(image, channels=channels, mpp=mpp) as source:
        check_fits((*source.size, 3), source.name)
        return Image(source.read(whole_window(source.size)), source.mpp)
