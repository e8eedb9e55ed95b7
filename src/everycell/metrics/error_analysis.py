"""What went wrong: one category for every true and every predicted cell of an image.

Cells are taken as given: masks may overlap, and classes only matter once cells are matched. A pair matches if its IoU
lies strictly above 0.5 and both cells are free, the surest prediction first, as in COCO. What stays unmatched is told
apart by two thresholds: from IoU 0.1 on cells overlap (the background threshold of TIDE, Bolya et al. 2020, ECCV), and
one cell holds another if more than half of the other's pixels lie in it (the detection test of Matula et al. 2015,
PLOS ONE 10(12)). Localisation, classification, duplicate, background and missed errors follow TIDE; merged and split
cells, which TIDE does not know, follow Coelho et al. 2009, ISBI, with that test in place of the largest overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from everycell.metrics.overlap import Overlap
from everycell.metrics.overlap import overlap as overlap_of_masks
from everycell.structures import Instances

_MATCH_IOU = 0.5
_OVERLAP_IOU = 0.1


class Category(IntEnum):
    """What became of a cell; a cell is in the first category that fits, in this order.

    CORRECT: matched, and of the same class.
    WRONG_CLASS: matched, but of another class.
    DUPLICATE: a prediction with IoU > 0.5 to a true cell that is matched with another prediction.
    MERGED: a prediction that holds two true cells or more, that is more than half of each; a true cell it holds.
    SPLIT: a true cell with two pieces or more, predictions that it holds more than half of at IoU ≥ 0.1; such a piece.
    POOR_LOCALISATION: overlaps a cell of the other set with IoU ≥ 0.1.
    MISSED: any other true cell.
    SPURIOUS: any other prediction.
    """

    CORRECT = 0
    WRONG_CLASS = 1
    DUPLICATE = 2
    MERGED = 3
    SPLIT = 4
    POOR_LOCALISATION = 5
    MISSED = 6
    SPURIOUS = 7

    @property
    def label(self) -> str:
        """The name in JSON and tables, such as `wrong_class`."""
        return self.name.lower()


TRUTH_CATEGORIES = tuple(category for category in Category if category not in (Category.DUPLICATE, Category.SPURIOUS))
"""What a true cell can be."""

PRED_CATEGORIES = tuple(category for category in Category if category is not Category.MISSED)
"""What a predicted cell can be."""


@dataclass(frozen=True)
class CellErrors:
    """What became of N cells of one set.

    Attributes:
        category: int8 [N], values of `Category`.
        partner: int64 [N], the matched cell of the other set, or else the one of highest IoU; -1 without any overlap.
        iou: float64 [N], IoU with the partner, 0 without one.
    """

    category: NDArray[np.int8]
    partner: NDArray[np.int64]
    iou: NDArray[np.float64]

    @property
    def matched(self) -> NDArray[np.bool_]:
        """Whether the partner is a match, bool [N]."""
        return self.category <= Category.WRONG_CLASS


@dataclass(frozen=True)
class ImageErrors:
    """What became of the true and the predicted cells of one image."""

    truth: CellErrors
    pred: CellErrors


def analyse_errors(truth: Instances, pred: Instances, overlap: Overlap | None = None) -> ImageErrors:
    """Put every true and every predicted cell of one image into exactly one `Category`.

    Args:
        truth: true cells.
        pred: predicted cells of the same image, those that count as found: choose a score threshold first.
        overlap: that of their masks, if it is at hand.
    """
    assert truth.image_size == pred.image_size
    shared = overlap or overlap_of_masks(truth.masks, pred.masks)
    n, m = shared.pixels.shape
    pairs = shared.pixels.tocoo()
    t, p, pixels = pairs.row, pairs.col, pairs.data
    iou = pixels / (shared.truth_areas[t] + shared.pred_areas[p] - pixels)
    right = truth.class_ids[t] == pred.class_ids[p]
    matched = _match(pairs, pred.scores[p], iou, right, pred.class_ids[p])

    holds = 2 * pixels > shared.truth_areas[t]
    merging = np.bincount(p[holds], minlength=m) >= 2
    piece = (2 * pixels > shared.pred_areas[p]) & (iou >= _OVERLAP_IOU)
    cut = np.bincount(t[piece], minlength=n) >= 2

    of_truth = np.full(n, Category.MISSED, np.int8)
    of_pred = np.full(m, Category.SPURIOUS, np.int8)
    # From the last rule to the first, so that the first one that fits has the last word.
    of_truth[t[iou >= _OVERLAP_IOU]] = of_pred[p[iou >= _OVERLAP_IOU]] = Category.POOR_LOCALISATION
    of_truth[cut] = of_pred[p[piece & cut[t]]] = Category.SPLIT
    of_truth[t[holds & merging[p]]] = of_pred[merging] = Category.MERGED
    of_pred[p[iou > _MATCH_IOU]] = Category.DUPLICATE
    of_truth[t[matched]] = of_pred[p[matched]] = np.where(right[matched], Category.CORRECT, Category.WRONG_CLASS)
    return ImageErrors(
        CellErrors(of_truth, *_partners(t, p, iou, matched, n)), CellErrors(of_pred, *_partners(p, t, iou, matched, m))
    )


def confusion_matrix(truth: Instances, pred: Instances, errors: ImageErrors, n_classes: int) -> NDArray[np.int64]:
    """How often each true class (rows) was found as each class (columns), int64 [K + 1, K + 1].

    Class 0 is background: column 0 counts true cells without a match, row 0 predictions without one.
    """
    found_as = np.zeros_like(truth.class_ids)
    matched = errors.truth.matched
    found_as[matched] = pred.class_ids[errors.truth.partner[matched]]
    extra = pred.class_ids[~errors.pred.matched]
    rows, columns = np.concatenate([truth.class_ids, np.zeros_like(extra)]), np.concatenate([found_as, extra])
    counts = np.zeros((n_classes + 1, n_classes + 1), np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts


def _match(
    pairs: coo_array,
    scores: NDArray[np.float32],
    iou: NDArray[np.float64],
    right: NDArray[np.bool_],
    class_ids: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which pairs match, bool [pairs]: by score, then IoU, then class, so the numbering of cells does not matter."""
    best_first = np.lexsort((class_ids, ~right, -iou, -scores))
    matched = np.zeros(len(iou), np.bool_)
    taken_truth, taken_pred = set[int](), set[int]()
    for i in best_first[iou[best_first] > _MATCH_IOU].tolist():
        t, p = int(pairs.row[i]), int(pairs.col[i])
        if t not in taken_truth and p not in taken_pred:
            matched[i] = True
            taken_truth.add(t)
            taken_pred.add(p)
    return matched


def _partners(
    own: NDArray[np.int32], other: NDArray[np.int32], iou: NDArray[np.float64], matched: NDArray[np.bool_], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Partner and IoU of N cells, from pairs of `own` and `other` cells."""
    best_first = np.lexsort((-iou, ~matched, own))
    cells, first = np.unique(own[best_first], return_index=True)
    partner, value = np.full(n, -1, np.int64), np.zeros(n)
    partner[cells], value[cells] = other[best_first[first]], iou[best_first[first]]
    return partner, value
