"""From mask-head probabilities straight to crops: no full-image mask is ever made."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from everycell.structures import MaskCrops


class _Axis(NamedTuple):
    """How the pixels of one axis of N windows read the masks: `position = pixel · scale + offset`."""

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


def masks_to_crops(
    probabilities: NDArray[np.float32], boxes: NDArray[np.float32], image_size: tuple[int, int], *, aligned: bool
) -> MaskCrops:
    """Resample every mask into its box and keep pixels of probability above 0.5.

    Args:
        probabilities: float32 [N, M, M], in [0, 1].
        boxes: float32 [N, 4], xyxy, px of the image.
        image_size: (height, width).
        aligned: read the mask at each pixel's exact place; False gives the pixels that torchvision's
            `paste_masks_in_image` sets (box widened by one mask cell on each side, then cut to whole pixels).

    Returns:
        N crops, clipped to the image; a mask without a pixel is an all-false crop.
    """
    if not len(boxes):
        return MaskCrops.empty()
    if not aligned:
        probabilities = np.pad(probabilities, ((0, 0), (1, 1), (1, 1)))
    size = probabilities.shape[-1]
    make = _exact_axis if aligned else _torchvision_axis
    x = make(boxes[:, 0], boxes[:, 2], size, image_size[1])
    y = make(boxes[:, 1], boxes[:, 3], size, image_size[0])
    windows = np.stack([x.start, y.start, x.stop, y.stop], axis=1).astype(np.int32)
    return MaskCrops(windows, _resample(probabilities, x, y) > 0.5)


def _exact_axis(low: NDArray[np.float32], high: NDArray[np.float32], size: int, limit: int) -> _Axis:
    low, high = low.astype(np.float64), high.astype(np.float64)
    # Only pixels whose centre lies in the box.
    start = np.clip(np.ceil(low - 0.5), 0, limit).astype(np.int64)
    stop = np.maximum(np.clip(np.ceil(high - 0.5), 0, limit).astype(np.int64), start)
    scale = size / np.maximum(high - low, 1e-6)
    return _Axis(start, stop, scale, (0.5 - low) * scale - 0.5)


def _torchvision_axis(low: NDArray[np.float32], high: NDArray[np.float32], size: int, limit: int) -> _Axis:
    centre, half = (low + high) * np.float32(0.5), (high - low) * np.float32(0.5 * size / (size - 2))
    first, last = (centre - half).astype(np.int64), (centre + half).astype(np.int64)
    scale = size / np.maximum(last - first + 1, 1)
    start = np.clip(first, 0, limit)
    stop = np.maximum(np.clip(last + 1, 0, limit), start)
    return _Axis(start, stop, scale, (0.5 - first) * scale - 0.5)


def _resample(masks: NDArray[np.float32], x: _Axis, y: _Axis) -> NDArray[np.float32]:
    """Bilinear values of all windows' pixels, one window after the other, row by row."""
    size = masks.shape[-1]
    widths, heights = x.stop - x.start, y.stop - y.start
    row_cell = np.repeat(np.arange(len(masks)), heights)  # one entry a row of a window
    row_pixel = _counting(heights) + y.start[row_cell]
    row_widths = widths[row_cell]
    row = np.repeat(np.arange(len(row_cell)), row_widths)  # one entry a pixel
    cell = row_cell[row]
    column_pixel = _counting(row_widths) + x.start[cell]
    v = np.clip(row_pixel * y.scale[row_cell] + y.offset[row_cell], 0, size - 1)
    u = np.clip(column_pixel * x.scale[cell] + x.offset[cell], 0, size - 1)
    v0, u0 = v.astype(np.int64), u.astype(np.int64)
    v1, u1 = np.minimum(v0 + 1, size - 1), np.minimum(u0 + 1, size - 1)
    fv, fu = (v - v0).astype(np.float32)[row], (u - u0).astype(np.float32)
    flat = masks.reshape(-1)
    top, bottom = ((row_cell * size + index) * size for index in (v0, v1))
    upper = flat[top[row] + u0] * (1 - fu) + flat[top[row] + u1] * fu
    lower = flat[bottom[row] + u0] * (1 - fu) + flat[bottom[row] + u1] * fu
    values: NDArray[np.float32] = upper * (1 - fv) + lower * fv
    return values


def _counting(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 … n - 1 for each length n, joined."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
