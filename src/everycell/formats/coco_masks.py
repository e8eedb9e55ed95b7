"""Masks as COCO files hold them: compressed RLE, uncompressed RLE, or polygons."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from everycell.errors import DataError
from everycell.formats.outlines import crossing
from everycell.structures.rle import decode


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """The mask of a `segmentation`.

    Polygons are drawn as the COCO API draws them, each one alone, and joined.

    Args:
        segmentation: `{"size": …, "counts": …}` with counts as a string or a list, or a list of polygons
            `[x1, y1, x2, y2, …]` in px.
        size: (height, width) of the image.

    Returns:
        (x, y) of the window's top left pixel, and the window's bits, bool [h, w]; 0 x 0 for an empty mask.

    Raises:
        DataError: it is none of these, is for another image size, or a polygon crosses itself.
    """
    if isinstance(segmentation, list):
        return _draw(segmentation, size)
    if not isinstance(segmentation, dict) or not isinstance(segmentation.get("counts"), str | list):
        raise DataError(f"segmentation must be an RLE with size and counts, or polygons, got {str(segmentation)[:40]}")
    if segmentation.get("size") != list(size):
        raise DataError(f"segmentation size must be {list(size)} (height, width), got {segmentation.get('size')!r}")
    return decode(segmentation["counts"], size)


def _draw(polygons: list[Any], size: tuple[int, int]) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    if not polygons:
        raise DataError("segmentation is an empty list; expected an RLE or polygons")
    height, width = size
    checked = []
    for polygon in polygons:
        try:
            corners = np.asarray(polygon, np.float64)
        except (TypeError, ValueError):
            corners = np.zeros(0)
        if corners.ndim != 1 or len(corners) < 6 or len(corners) % 2 or not np.isfinite(corners).all():
            raise DataError(f"a polygon is x1, y1, x2, y2, … of 3 corners or more, got {str(polygon)[:40]}")
        ring = corners.reshape(-1, 2)
        # Also keeps the API from walking along an edge of any length, pixel by pixel.
        far = ((ring < [-width, -height]) | (ring > [2 * width, 2 * height])).any(axis=1)
        if far.any():
            raise DataError(
                f"a polygon has a corner at {ring[far][0].tolist()} (x, y), far outside the image of {height} × "
                f"{width} px (height × width); is it for another image?"
            )
        if place := crossing([[np.concatenate([ring, ring[:1]])]]):
            raise DataError(f"a polygon crosses itself ({place}); redraw it or export the mask as RLE")
        checked.append(corners.tolist())
    codes = coco_mask.frPyObjects(checked, height, width)
    return decode(coco_mask.merge(codes)["counts"].decode("ascii"), size)
