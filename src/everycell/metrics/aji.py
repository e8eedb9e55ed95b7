"""Aggregated Jaccard index (Kumar et al. 2017, IEEE Transactions on Medical Imaging 36(7))."""

from __future__ import annotations

import numpy as np

from everycell.metrics.overlap import Overlap


def aggregated_jaccard_index(overlap: Overlap) -> float:
    """AJI of one image whose cells do not overlap within a set, in [0, 1].

    Every true cell takes the predicted cell of highest IoU (one predicted cell may serve several true ones, as in the
    paper); AJI is the sum of their intersections over the sum of their unions plus the area of all unused predictions.
    The paper leaves ties open: here the larger intersection wins, and predictions that tie on both count as used, so
    that the result does not depend on how cells are numbered. An image without any true or predicted cell gives NaN, to
    be left out of a mean over images.
    """
    pairs = overlap.pixels.tocoo()
    iou = pairs.data / (overlap.truth_areas[pairs.row] + overlap.pred_areas[pairs.col] - pairs.data)
    best_first = np.lexsort((-pairs.data, -iou, pairs.row))
    truth, first = np.unique(pairs.row[best_first], return_index=True)
    best = best_first[first]
    of_row = best[np.searchsorted(truth, pairs.row)]  # each pair's best rival, for the same true cell
    used = pairs.col[(iou == iou[of_row]) & (pairs.data == pairs.data[of_row])]
    unused = np.setdiff1d(np.arange(len(overlap.pred_areas)), used)
    shared = pairs.data[best].sum()
    union = overlap.truth_areas.sum() + overlap.pred_areas[pairs.col[best]].sum() - shared
    union += overlap.pred_areas[unused].sum()
    return float(shared / union) if union else float("nan")
