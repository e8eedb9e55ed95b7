"""Aggregated Jaccard index (Kumar et al. 2017, IEEE Transactions on Medical Imaging 36(7))."""

from __future__ import annotations

import numpy as np

from everycell.metrics.overlap import Overlap


def aggregated_jaccard_index(overlap: Overlap) -> float:
    """AJI of one image whose cells do not overlap within a set, in [0, 1].

    Every true cell takes the predicted cell of highest IoU (one predicted cell may serve several true ones, as in the
    paper); AJI is the sum of their intersections over the sum of their unions plus the area of all unused predictions.
    An image without any true or predicted cell gives NaN, to be left out of a mean over images.
    """
    iou = overlap.iou().tocoo()
    best_first = np.lexsort((iou.col, -iou.data, iou.row))
    truth, first = np.unique(iou.row[best_first], return_index=True)
    pred = iou.col[best_first][first]
    shared = overlap.pixels[truth, pred].sum()
    unused = np.setdiff1d(np.arange(len(overlap.pred_areas)), pred)
    union = overlap.truth_areas.sum() + overlap.pred_areas[pred].sum() - shared + overlap.pred_areas[unused].sum()
    return float(shared / union) if union else float("nan")
