"""Join the cells of neighbouring tiles: whatever two tiles both claim is kept once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everycell.structures import MaskCrops

_SAME_CELL_IOU = 0.5


def centroids(masks: MaskCrops) -> NDArray[np.float64]:
    """Mean x and y of each cell's pixels, float64 [N, 2], px from the image's corner.

    The window's centre for a mask without pixels.
    """
    centres = (masks.boxes[:, :2] + masks.boxes[:, 2:]) / 2.0
    for i, (rows, columns, bits) in enumerate(masks):
        area = bits.sum()
        if area:
            centres[i, 0] = columns.start + 0.5 + (bits.sum(0) @ np.arange(bits.shape[1])) / area
            centres[i, 1] = rows.start + 0.5 + (bits.sum(1) @ np.arange(bits.shape[0])) / area
    return centres


def drop_seam_duplicates(masks: MaskCrops, scores: NDArray[np.float32], tiles: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices to keep, ascending, after removing cells that two tiles both found.

    Cells of different tiles with mask IoU above 0.5 are the same cell; the higher score stays.

    Args:
        masks: N cells of all tiles in one frame.
        scores: float32 [N].
        tiles: int64 [N], number of the tile that found each cell.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, areas = masks.boxes, masks.areas()
    alive = np.ones(len(masks), np.bool_)
    for place, i in enumerate(order):
        if not alive[i]:
            continue
        later = order[place + 1 :]
        near = later[
            (tiles[later] != tiles[i])
            & alive[later]
            & (np.minimum(boxes[later, 2:], boxes[i, 2:]) > np.maximum(boxes[later, :2], boxes[i, :2])).all(axis=1)
        ]
        for j in near:
            shared = _intersection(masks, int(i), int(j))
            if shared > _SAME_CELL_IOU * (areas[i] + areas[j] - shared):
                alive[j] = False
    return np.flatnonzero(alive)


def _intersection(masks: MaskCrops, i: int, j: int) -> int:
    """Pixels that cells `i` and `j` share."""
    x0, y0 = np.maximum(masks.boxes[i, :2], masks.boxes[j, :2])
    x1, y1 = np.minimum(masks.boxes[i, 2:], masks.boxes[j, 2:])
    parts = []
    for k in (i, j):
        left, top = masks.boxes[k, :2]
        parts.append(masks.crop(k)[y0 - top : y1 - top, x0 - left : x1 - left])
    return int((parts[0] & parts[1]).sum())
