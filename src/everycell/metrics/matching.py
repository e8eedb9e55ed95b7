"""One-to-one matching of true and predicted cells, and the counts that follow from it.

Counts equal those of `matching` in StarDist (Schmidt et al. 2018), except for an IoU exactly on the threshold: here a
pair must lie strictly above it, as in PQ (Kirillov et al. 2019), so from 0.5 on matches of cells that do not overlap
within a set are unique.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""The ten thresholds of COCO and of the 2018 Data Science Bowl."""


@dataclass(frozen=True)
class Counts:
    """Matched and unmatched cells; add counts of several images to pool them.

    The rates are 0 without a match, and NaN where there was nothing to find and nothing was found.

    Attributes:
        tp: true cells with a predicted partner.
        fp: predicted cells without a partner.
        fn: true cells without a partner.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return self._rate(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return self._rate(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return self._rate(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def dsb_ap(self) -> float:
        """TP / (TP + FP + FN), the "average precision" of the 2018 Data Science Bowl, "accuracy" in StarDist."""
        return self._rate(self.tp, self.tp + self.fp + self.fn)

    def _rate(self, part: int, whole: int) -> float:
        if self.tp + self.fp + self.fn == 0:
            return float("nan")
        return part / whole if part else 0.0


@dataclass(frozen=True)
class Matches:
    """Pairs of N true and M predicted cells; each cell is in one pair at most.

    Attributes:
        truth: int64 [K], the true cell of each pair, ascending.
        pred: int64 [K], its predicted partner.
        iou: float64 [K].
        counts: TP = K, FP = M - K, FN = N - K.
    """

    truth: NDArray[np.int64]
    pred: NDArray[np.int64]
    iou: NDArray[np.float64]
    counts: Counts


def match(iou: csr_array, threshold: float) -> Matches:
    """Match true with predicted cells: the most pairs with IoU strictly above `threshold`, then the largest sum of IoU.

    Args:
        iou: sparse float64 [N, M] from `Overlap.iou`.
        threshold: in [0, 1).
    """
    pairs = iou.tocoo()
    above = pairs.data > threshold
    truth, pred, values = pairs.row[above], pairs.col[above], pairs.data[above]
    if len(np.unique(truth)) < len(truth) or len(np.unique(pred)) < len(pred):
        chosen = _assign(truth, pred, values)
        truth, pred, values = truth[chosen], pred[chosen], values[chosen]
    order = np.argsort(truth)
    k, (n, m) = len(truth), iou.shape
    truth, pred = truth[order].astype(np.int64), pred[order].astype(np.int64)
    return Matches(truth, pred, values[order], Counts(tp=k, fp=m - k, fn=n - k))


def _assign(truth: NDArray[np.int32], pred: NDArray[np.int32], iou: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which of the candidate pairs make the maximum matching, indices into them.

    Every true cell also gets a private dummy partner of cost 2. A real pair costs 1 less a share of its IoU, and the
    shares sum to 0.5 at most, so one more pair always outweighs any gain in IoU.
    """
    _, rows = np.unique(truth, return_inverse=True)
    _, columns = np.unique(pred, return_inverse=True)
    n, m = int(rows.max()) + 1, int(columns.max()) + 1
    costs = np.concatenate([1 - iou / (2 * min(n, m)), np.full(n, 2.0)])
    edges = (np.concatenate([rows, np.arange(n)]), np.concatenate([columns, m + np.arange(n)]))
    matched_rows, matched_columns = min_weight_full_bipartite_matching(coo_array((costs, edges)).tocsr())
    real = matched_columns < m
    number = csr_array((np.arange(1, len(iou) + 1), (rows, columns)), shape=(n, m))
    return np.asarray(number[matched_rows[real], matched_columns[real]]).ravel() - 1
