"""Average precision and recall of COCO (Lin et al. 2014) on masks, without COCO's limit of 100 cells an image.

COCO's evaluation keeps the 100 highest scores of an image and class and calls every further true cell missed: perfect
outlines of 400 cells score 0.26 there. Here that limit, maxDets, is set above the largest count in the data.

Matching needs one image at a time and reads IoU from the sparse `Overlap`, so it makes no run-length codes, runs beside
other images in other processes, and shares the overlap with the other measures. Figures equal those of pycocotools.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everycell.metrics.overlap import Overlap, overlap
from everycell.structures import Instances

# Made as COCO makes them: an IoU on a threshold must not depend on how the threshold was rounded.
_IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ClassPrecision:
    """Average precision and recall of one class, in [0, 1]; NaN where the class has no true cell.

    Attributes:
        ap: mean over IoU 0.50, 0.55 … 0.95.
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
        ar: share of the true cells that are found, mean over IoU 0.50, 0.55 … 0.95.
    """

    ap: float
    ap50: float
    ap75: float
    ar: float


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision over classes and of each class.

    Attributes:
        map: mean AP over the classes that have a true cell; NaN where none has.
        ap50: the same at IoU 0.50.
        ap75: the same at IoU 0.75.
        ar: mean average recall over the same classes.
        per_class: K entries, those of classes 1 … K.
        max_dets: COCO's limit per image and class, above the largest count of true or predicted cells in any image.
    """

    map: float
    ap50: float
    ap75: float
    ar: float
    per_class: tuple[ClassPrecision, ...]
    max_dets: int


@dataclass(frozen=True)
class RankedCells:
    """What average precision needs of one image with N true and M predicted cells.

    Attributes:
        scores: float32 [M].
        class_ids: int64 [M], 1 … K.
        hits: bool [10, M], whether each prediction is right at IoU 0.50, 0.55 … 0.95.
        ignored: bool [10, M], wrong there, but in a region that is ignored.
        truth_class_ids: int64 [N], 1 … K.
    """

    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    hits: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    truth_class_ids: NDArray[np.int64]


def average_precision(truths: Sequence[Instances], preds: Sequence[Instances], n_classes: int) -> AveragePrecision:
    """COCO AP of predictions in any number of images, on raw masks with all given scores.

    Args:
        truths: true cells, one entry an image.
        preds: predicted cells of the same images, in the same order; they may overlap.
        n_classes: K; class ids are 1 … K.
    """
    return average_ranked([rank_cells(truth, pred) for truth, pred in zip(truths, preds, strict=True)], n_classes)


def rank_cells(
    truth: Instances, pred: Instances, shared: Overlap | None = None, *, ignore: Instances | None = None
) -> RankedCells:
    """Match the cells of one image as COCO does.

    In the order of their scores, predictions take the free true cell of their class with the highest IoU, if that
    reaches the threshold; of equal ones the last.

    Args:
        truth: true cells.
        pred: predicted cells of the same image; they may overlap.
        shared: their `overlap`, if it is known already.
        ignore: regions without full truth (COCO's `iscrowd`). A prediction that is wrong at an IoU threshold, but has
            at least that share of its pixels in a region of its class, neither helps nor harms there.
    """
    pairs = (shared or overlap(truth.masks, pred.masks)).iou().tocoo()
    fits = (pairs.data >= _IOUS[0]) & (truth.class_ids[pairs.row] == pred.class_ids[pairs.col])
    rows, columns, iou = pairs.row[fits], pairs.col[fits], pairs.data[fits]
    rank = np.empty(len(pred), np.int64)
    rank[np.argsort(-pred.scores, kind="stable")] = np.arange(len(pred))
    order = np.lexsort((-rows, -iou, rank[columns]))
    rows, columns, iou = rows[order], columns[order], iou[order]
    hits = np.zeros((len(_IOUS), len(pred)), np.bool_)
    for of_threshold, threshold in zip(hits, _IOUS, strict=True):
        reached = iou >= threshold
        of_threshold[_greedy(rows[reached].tolist(), columns[reached].tolist())] = True
    ignored = np.zeros_like(hits)
    if ignore is not None and len(ignore):
        ignored = ~hits & (_share_inside(pred, ignore) >= _IOUS[:, None])
    return RankedCells(pred.scores, pred.class_ids, hits, ignored, truth.class_ids)


def average_ranked(images: Sequence[RankedCells], n_classes: int) -> AveragePrecision:
    """Average precision over images from the cells of each; `n_classes` is K."""
    max_dets = 1 + max((max(len(image.scores), len(image.truth_class_ids)) for image in images), default=0)
    table = np.full((n_classes, 4), np.nan)
    for k, ranking in enumerate(_rankings(images, n_classes)):
        if ranking.n_truth.any():
            figures = [ranking.figures(i) for i in range(len(_IOUS))]
            precision, recall = np.array(figures).T
            table[k] = precision.mean(), precision[0], precision[5], recall.mean()
    present = ~np.isnan(table[:, 0])
    overall = table[present].mean(axis=0) if present.any() else np.full(4, np.nan)
    ap, ap50, ap75, ar = overall.tolist()
    return AveragePrecision(ap, ap50, ap75, ar, tuple(ClassPrecision(*row) for row in table.tolist()), max_dets)


def weighted_ap50(
    images: Sequence[RankedCells], n_classes: int
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """AP50, mean over classes, as a function of how often each image counts.

    The function takes weights, float64 [..., N] of N images, and gives figures, float64 [...]; NaN where no image that
    counts has a true cell. With the identity as sums it is a `Statistic` for `bootstrap_interval`.
    """
    rankings = _rankings(images, n_classes)

    def figure(weights: NDArray[np.float64]) -> float:
        values = [ranking.figures(0, weights)[0] for ranking in rankings if ranking.n_truth @ weights > 0]
        return float(np.mean(values)) if values else float("nan")

    return lambda weights: np.apply_along_axis(figure, -1, weights)


@dataclass(frozen=True)
class _Ranking:
    """All M predictions of one class in N images, the highest score first.

    Attributes:
        image: int64 [M], where each is.
        hits: bool [10, M].
        ignored: bool [10, M].
        n_truth: int64 [N], true cells of the class in each image.
    """

    image: NDArray[np.int64]
    hits: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    n_truth: NDArray[np.int64]

    def figures(self, i: int, weights: NDArray[np.float64] | None = None) -> tuple[float, float]:
        """Interpolated precision averaged over recall, and the last recall, at the `i`-th IoU threshold.

        Args:
            i: number of the threshold.
            weights: how often each image counts, float64 [N]; once unless given.
        """
        weights = np.ones(len(self.n_truth)) if weights is None else weights
        hits = np.flatnonzero(self.hits[i])
        each = np.where(self.ignored[i], 0.0, weights[self.image])
        right, kept = np.cumsum(each[hits]), np.cumsum(each)[hits]
        # Precision falls until the next hit, so the best one at a recall or above is that at a hit.
        precision = np.divide(right, kept, out=np.zeros(len(hits)), where=kept > 0)
        best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        recall = right / (self.n_truth @ weights)
        return float(best[np.searchsorted(recall, _RECALLS)].mean()), float(recall[-1]) if len(hits) else 0.0


def _rankings(images: Sequence[RankedCells], n_classes: int) -> list[_Ranking]:
    """Predictions and true cells of each class 1 … K."""
    nothing = np.zeros((len(_IOUS), 0), np.bool_)
    scores = np.concatenate([np.zeros(0, np.float32), *(image.scores for image in images)])
    class_ids = np.concatenate([np.zeros(0, np.int64), *(image.class_ids for image in images)])
    hits = np.concatenate([nothing, *(image.hits for image in images)], axis=1)
    ignored = np.concatenate([nothing, *(image.ignored for image in images)], axis=1)
    of_image = np.repeat(np.arange(len(images)), [len(image.scores) for image in images])
    n_truth = np.zeros((len(images), n_classes + 1), np.int64)
    for i, image in enumerate(images):
        n_truth[i] = np.bincount(image.truth_class_ids, minlength=n_classes + 1)
    ranked = np.argsort(-scores, kind="stable")
    rankings = []
    for k in range(1, n_classes + 1):
        chosen = ranked[class_ids[ranked] == k]
        rankings.append(_Ranking(of_image[chosen], hits[:, chosen], ignored[:, chosen], n_truth[:, k]))
    return rankings


def _greedy(rows: list[int], columns: list[int]) -> list[int]:
    """Columns of the pairs that form when each pair, in this order, is taken if both of its ends are free."""
    taken, found = set[int](), dict[int, None]()
    for row, column in zip(rows, columns, strict=True):
        if row not in taken and column not in found:
            taken.add(row)
            found[column] = None
    return list(found)


def _share_inside(pred: Instances, regions: Instances) -> NDArray[np.float64]:
    """Largest share of each prediction's pixels in one region of its class, float64 [M]."""
    inside = overlap(regions.masks, pred.masks)
    pairs = inside.pixels.tocoo()
    same = regions.class_ids[pairs.row] == pred.class_ids[pairs.col]
    share = np.zeros(len(pred))
    np.maximum.at(share, pairs.col[same], pairs.data[same] / inside.pred_areas[pairs.col[same]])
    return share
