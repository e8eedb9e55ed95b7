"""Resizing of 8-bit pixels."""

from __future__ import annotations

import numpy as np
import PIL.Image
from numpy.typing import NDArray

Box = tuple[float, float, float, float]


def resample(pixels: NDArray[np.uint8], box: Box, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize the part of an image inside `box` bilinearly, with antialiasing where it shrinks.

    The same convention as `everycell.transforms.zoom_image`: pixel centres at halves, borders repeated. Each channel
    is computed in floating point and rounded once.

    Args:
        pixels: uint8 [h, w, 3].
        box: (x0, y0, x1, y1), px of `pixels`, not necessarily whole.
        size: (height, width) of the result.
    """
    whole: Box = 0, 0, size[1], size[0]
    if pixels.shape[:2] == size and box == whole:
        return pixels
    resized = np.empty((*size, 3), np.uint8)
    for i in range(3):
        channel = PIL.Image.fromarray(pixels[..., i].astype(np.float32))
        values = channel.resize(size[::-1], PIL.Image.Resampling.BILINEAR, box)
        resized[..., i] = np.rint(np.asarray(values))
    return resized
