"""Aggregated Jaccard index (Kumar et al. 2017, IEEE Transactions on Medical Imaging 36(7)) and AJI+.

AJI+ is the variant of HoVer-Net (Graham et al. 2019, Medical Image Analysis 58, 101563).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, diags_array, hstack
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

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


def aggregated_jaccard_index_plus(overlap: Overlap) -> float:
    """AJI+ of one image whose cells do not overlap within a set, in [0, 1]: AJI in which no prediction serves twice.

    True and predicted cells form one-to-one pairs (t, p) so that the sum of their IoU is largest; then

        AJI+ = sum of |t and p| / (sum of |t or p| + area of all true and predicted cells without a partner).

    in pixels. Where several pairings reach that sum, which the paper leaves open, the one that shares the most pixels
    counts, so that the result does not depend on how cells are numbered. An image without any true or predicted cell
    gives NaN.
    """
    shared = _shared_by_best_pairs(overlap)
    union = overlap.truth_areas.sum() + overlap.pred_areas.sum() - shared
    return float(shared / union) if union else float("nan")


def _shared_by_best_pairs(overlap: Overlap) -> int:
    """Pixels shared by the pairs of the one-to-one matching with the largest sum of IoU, then of shared pixels."""
    if not overlap.pixels.nnz:
        return 0
    # One billionth for the larger intersection: it decides where sums of IoU tie, and hardly anywhere else.
    weight = overlap.iou() + 1e-9 / overlap.pixels.max() * overlap.pixels
    # A full matching needs a column of its own for every true cell that stays alone, at a higher cost than any pair.
    costs = csr_array(hstack([weight, diags_array(np.full(weight.shape[0], 1e-12))]))
    costs.data = 2 - costs.data
    rows, columns = min_weight_full_bipartite_matching(costs)
    paired = columns < weight.shape[1]
    return int(overlap.pixels[rows[paired], columns[paired]].sum())
