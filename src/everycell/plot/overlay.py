"""Outlines of cells drawn on the image they were found in."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from everycell.structures import Instances
from everycell.structures.colors import class_color, instance_colors

_TARGET_PX = 2000
_MAX_FACTOR = 8
_MAX_WIDTH_PX = 4


def magnification(image_size: tuple[int, int]) -> int:
    """How many times `overlay` enlarges an image of `image_size` (height, width).

    The largest whole number, up to 8, that keeps the longer side within 2000 px; 1 for larger images.
    """
    return int(np.clip(_TARGET_PX // max(*image_size, 1), 1, _MAX_FACTOR))


def overlay(
    pixels: NDArray[np.uint8],
    instances: Instances,
    *,
    by: Literal["class", "instance"] = "class",
    gray: bool = False,
    width_px: int | None = None,
    opacity: float = 0.0,
) -> NDArray[np.uint8]:
    """Draw each cell's outline just inside its border; the higher score lies on top.

    Args:
        pixels: uint8 [H, W, 3], RGB.
        instances: cells of this image.
        by: one colour for each class, or for each cell.
        gray: draw on the image's gray values, so that the only colours are the cells'.
        width_px: width of the outlines in the picture; the magnification, at most 4, when None.
        opacity: of a fill inside the outlines, 0 (none) … 1.

    Returns:
        uint8 [k * H, k * W, 3] where k = `magnification(image_size)`: small images are enlarged, pixel by pixel, so
        that outlines do not hide the cells.
    """
    assert pixels.shape == (*instances.image_size, 3)
    factor = magnification(instances.image_size)
    width = min(factor, _MAX_WIDTH_PX) if width_px is None else width_px
    canvas = _enlarge(to_gray(pixels) if gray else pixels, factor).copy()
    colors = instance_colors(len(instances))
    if by == "class":
        colors = np.array([class_color(i) for i in instances.class_ids.tolist()], np.uint8).reshape(-1, 3)
    windows = list(instances.masks)
    for i in np.argsort(instances.scores, kind="stable"):
        rows, columns, bits = windows[i]
        bits = _enlarge(bits, factor)
        window = canvas[rows.start * factor : rows.stop * factor, columns.start * factor : columns.stop * factor]
        if opacity > 0:
            window[bits] = np.round((1 - opacity) * window[bits] + opacity * colors[i])
        window[bits & ~ndimage.binary_erosion(bits, iterations=width)] = colors[i]
    return canvas


def to_gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma of Rec. 601 in all three channels, uint8 [H, W, 3]."""
    luma = np.round(pixels @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


def _enlarge(array: NDArray[Any], factor: int) -> NDArray[Any]:
    return array.repeat(factor, axis=0).repeat(factor, axis=1)
