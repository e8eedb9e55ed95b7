"""Drop cells that lie under better ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everycell.structures import MaskCrops


def drop_covered(
    masks: MaskCrops, scores: NDArray[np.float32], image_size: tuple[int, int], max_covered: float
) -> NDArray[np.int64]:
    """Indices to keep, best score first, when cells of an image hardly overlap.

    Box NMS leaves two outlines of one cell where their boxes differ enough; their masks tell.

    Args:
        masks: N cells.
        scores: float32 [N].
        image_size: (height, width), px.
        max_covered: a cell is dropped when more than this share of its pixels belongs to cells of higher score.
    """
    taken = np.zeros(image_size, np.bool_)
    windows, kept = list(masks), []
    for i in np.argsort(-scores, kind="stable").tolist():
        rows, columns, bits = windows[i]
        below = taken[rows, columns]
        if (below & bits).sum() <= max_covered * bits.sum():
            below |= bits
            kept.append(i)
    return np.array(kept, np.int64)
