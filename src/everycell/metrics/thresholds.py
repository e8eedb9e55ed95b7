"""Which score threshold keeps the right cells and few others: F1 at every possible threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everycell.metrics.overlap import Overlap
from everycell.metrics.overlap import overlap as overlap_of_masks
from everycell.structures import Instances


@dataclass(frozen=True)
class ScoreHits:
    """Predictions of all images, and whether each is right.

    Attributes:
        scores: float32 [M].
        hits: bool [M], matched with a true cell.
        class_ids: int64 [M].
        truth_class_ids: int64 [N], of the true cells.
    """

    scores: NDArray[np.float32]
    hits: NDArray[np.bool_]
    class_ids: NDArray[np.int64]
    truth_class_ids: NDArray[np.int64]


@dataclass(frozen=True)
class ThresholdCurve:
    """Rates when all cells with at least a score are kept, for T distinct scores.

    Attributes:
        thresholds: float64 [T], descending: every score that occurs.
        precision: float64 [T].
        recall: float64 [T]; NaN without true cells.
        f1: float64 [T].
        best_threshold: the highest score of the best F1; NaN where no prediction is right.
        best_f1: its F1; 0 where no prediction is right, NaN without any true or predicted cell.
    """

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    best_threshold: float
    best_f1: float


def score_hits(
    truths: Sequence[Instances], preds: Sequence[Instances], *, iou: float = 0.5, by_class: bool = True
) -> ScoreHits:
    """Match the cells of each image on raw masks, the surest prediction first, as in COCO.

    A prediction's match does not depend on less sure ones, so what is right stays right at any score threshold.

    Args:
        truths: true cells, one entry an image.
        preds: predicted cells of the same images, in the same order.
        iou: a match lies strictly above it.
        by_class: only cells of one class match.
    """
    matched = [image_hits(*pair, iou=iou, by_class=by_class) for pair in zip(truths, preds, strict=True)]
    return ScoreHits(
        scores=np.concatenate([np.zeros(0, np.float32), *(pred.scores for pred in preds)]),
        hits=np.concatenate([np.zeros(0, np.bool_), *matched]),
        class_ids=np.concatenate([np.zeros(0, np.int64), *(pred.class_ids for pred in preds)]),
        truth_class_ids=np.concatenate([np.zeros(0, np.int64), *(truth.class_ids for truth in truths)]),
    )


def image_hits(
    truth: Instances, pred: Instances, overlap: Overlap | None = None, *, iou: float = 0.5, by_class: bool = True
) -> NDArray[np.bool_]:
    """Which of the M predictions of one image are right, bool [M]; see `score_hits`.

    Args:
        truth: true cells.
        pred: predicted cells of the same image.
        overlap: that of their masks, if it is at hand.
        iou: a match lies strictly above it.
        by_class: only cells of one class match.
    """
    pairs = (overlap or overlap_of_masks(truth.masks, pred.masks)).iou().tocoo()
    fits = pairs.data > iou
    if by_class:
        fits &= truth.class_ids[pairs.row] == pred.class_ids[pairs.col]
    rows, columns = pairs.row[fits], pairs.col[fits]
    best_first = np.lexsort((-pairs.data[fits], -pred.scores[columns]))
    taken, right = set[int](), set[int]()
    for t, p in zip(rows[best_first].tolist(), columns[best_first].tolist(), strict=True):
        if t not in taken and p not in right:
            taken.add(t)
            right.add(p)
    hits = np.zeros(len(pred), np.bool_)
    hits[list(right)] = True
    return hits


def threshold_curve(scores: NDArray[np.floating], hits: NDArray[np.bool_], n_truth: int) -> ThresholdCurve:
    """Precision, recall and F1 of M predictions at every threshold.

    Args:
        scores: [M].
        hits: bool [M], whether each prediction is right.
        n_truth: true cells.
    """
    assert scores.shape == hits.shape and hits.sum() <= n_truth
    order = np.argsort(-scores, kind="stable")
    score = scores[order].astype(np.float64)
    last = np.flatnonzero(np.diff(score, append=-np.inf))  # cells of equal score are kept or dropped together
    kept, right = last + 1, np.cumsum(hits[order])[last]
    f1 = 2 * right / (kept + n_truth)
    recall = right / n_truth if n_truth else np.full(len(kept), np.nan)
    if hits.any():
        best = int(np.argmax(f1))
        best_threshold, best_f1 = float(score[last[best]]), float(f1[best])
    else:
        best_threshold, best_f1 = math.nan, 0.0 if len(hits) or n_truth else math.nan
    return ThresholdCurve(score[last], right / kept, recall, f1, best_threshold, best_f1)


def class_threshold_curves(cells: ScoreHits, n_classes: int) -> tuple[ThresholdCurve, ...]:
    """The curve of each class 1 … K, from cells matched by class."""
    return tuple(
        threshold_curve(
            cells.scores[cells.class_ids == k],
            cells.hits[cells.class_ids == k],
            int((cells.truth_class_ids == k).sum()),
        )
        for k in range(1, n_classes + 1)
    )
