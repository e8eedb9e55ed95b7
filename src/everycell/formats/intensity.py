"""Intensities of cells, from an image that need not fit into memory."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from everycell.structures import MaskCrops

_BLOCK_PX = 1024
_CHANNELS = ("red", "green", "blue")


class PixelReader(Protocol):
    """An image that is read window by window."""

    def read(self, window: tuple[int, int, int, int], /) -> NDArray[np.uint8]:
        """Pixels of `window` (x0, y0, x1, y1; px, half-open), RGB, uint8 [h, w, 3]."""
        ...


def intensities(masks: MaskCrops, image: NDArray[np.uint8] | PixelReader) -> dict[str, NDArray[np.float64]]:
    """Mean and standard deviation (of the pixels, not of a sample) of each channel in each mask.

    Args:
        masks: N masks inside the image.
        image: uint8 [H, W, 3], RGB, or what reads it; read in blocks of about 1024 px a side.

    Returns:
        `mean_red` … `mean_blue` and `std_red` … `std_blue`, 0 … 255, float64 [N] each; NaN for a mask without pixels.
    """
    if isinstance(image, np.ndarray):
        sums = _sums(masks, image, (0, 0))
    else:
        sums = np.zeros((2, 3, len(masks)))
        for block in _blocks(masks):
            part = masks.select(block)
            x0, y0 = (int(side) for side in part.boxes[:, :2].min(axis=0))
            x1, y1 = (int(side) for side in part.boxes[:, 2:].max(axis=0))
            if x1 > x0 and y1 > y0:
                sums[..., block] = _sums(part, image.read((x0, y0, x1, y1)), (x0, y0))
    with np.errstate(invalid="ignore"):
        mean, squares = sums / masks.areas()
        std = np.sqrt(np.maximum(squares - mean**2, 0))
    names = [f"{measure}_{channel}" for measure in ("mean", "std") for channel in _CHANNELS]
    return dict(zip(names, [*mean, *std], strict=True))


def _sums(masks: MaskCrops, pixels: NDArray[np.uint8], origin: tuple[int, int]) -> NDArray[np.float64]:
    """Sums of values and of their squares, [2, 3 channels, N]; `origin` is the (x, y) of the first pixel."""
    cell = np.repeat(np.arange(len(masks)), masks.areas())
    boxes = masks.boxes.astype(np.int64)
    rows, columns = np.divmod(np.flatnonzero(masks.bits) - masks.starts[cell], (boxes[:, 2] - boxes[:, 0])[cell])
    values = pixels[boxes[cell, 1] - origin[1] + rows, boxes[cell, 0] - origin[0] + columns].T.astype(np.float64)
    return np.array([[np.bincount(cell, weights=v, minlength=len(masks)) for v in of] for of in (values, values**2)])


def _blocks(masks: MaskCrops) -> list[NDArray[np.int64]]:
    """The cells whose windows begin in the same block of the image."""
    _, block = np.unique(masks.boxes[:, 1::-1] // _BLOCK_PX, axis=0, return_inverse=True)
    order = np.argsort(block.ravel(), kind="stable")
    return np.split(order, np.cumsum(np.bincount(block.ravel()))[:-1]) if len(order) else []
