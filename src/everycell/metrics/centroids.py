"""Detection and classification by centroid distance: F_d and F_c of HoVer-Net.

Both are defined in Graham et al. 2019 ("HoVer-Net: Simultaneous segmentation and classification of nuclei in
multi-tissue histology images", Medical Image Analysis 58, 101563). Outlines do not matter, only where cells lie and of
which class they are. Counts are pooled over all images before a rate is taken, as published.

The pairing is that of the published evaluation: the one-to-one assignment with the smallest sum of distances over all
cells of an image, whatever their distance, from which pairs farther apart than the radius are then dropped. So a cell
far away can change which near ones pair up; in rare cases a false positive raises the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from everycell.metrics.lengths import length_px
from everycell.metrics.matching import Counts
from everycell.structures import Instances
from everycell.structures.runs import Runs, row_runs

RADIUS_PX = 12.0
"""The published radius, px at 40x."""

RADIUS_UM = 3.0
"""The published radius where a pixel of a 40x scan is 0.25 µm wide."""

CLASS_WEIGHTS = (2.0, 2.0, 1.0, 1.0)
"""The published weights of F_c: paired with a wrong class (false positive, false negative), then unpaired (same)."""


@dataclass(frozen=True)
class CentroidPairs:
    """Pairs of N true and M predicted cells of one image; each cell is in one pair at most.

    Attributes:
        truth: int64 [P], the true cell of each pair, ascending.
        pred: int64 [P], its predicted partner.
        distance_px: float64 [P], between their centroids.
        truth_classes: int64 [N], 1 … K.
        pred_classes: int64 [M], 1 … K.
    """

    truth: NDArray[np.int64]
    pred: NDArray[np.int64]
    distance_px: NDArray[np.float64]
    truth_classes: NDArray[np.int64]
    pred_classes: NDArray[np.int64]


@dataclass(frozen=True)
class CentroidScores:
    """Scores of any number of images, each in [0, 1]; NaN where there was nothing to find and nothing was found.

    Attributes:
        counts: of all pairs whatever their class, summed over the images.
        f_d: detection, 2 TP / (2 TP + FP + FN).
        accuracy: share of the pairs whose classes agree; NaN without a pair.
        f_c: K entries, detection and classification of classes 1 … K.
    """

    counts: Counts
    f_d: float
    accuracy: float
    f_c: tuple[float, ...]


def pair_centroids(
    truth: Instances,
    pred: Instances,
    *,
    radius_px: float = RADIUS_PX,
    radius_um: float | None = None,
    runs: tuple[Runs, Runs] | None = None,
) -> CentroidPairs:
    """Pair the cells of one image by the published rule (see the module); a distance equal to the radius counts.

    Memory and time grow with N × M (8 bytes each) and about N³: meant for image fields, not whole slides.

    Args:
        truth: true cells.
        pred: predicted cells of the same image.
        radius_px: largest distance of a pair.
        radius_um: the same in µm, by the µm per pixel of `truth`; replaces `radius_px`.
        runs: those of both sets, if they are at hand.

    Raises:
        DataError: `radius_um` is given for an image whose µm per pixel are unknown.
    """
    radius = length_px(radius_px, radius_um, truth.mpp)
    truth_xy, pred_xy = (side.centroids() for side in runs or (row_runs(truth.masks), row_runs(pred.masks)))
    of_truth, of_pred = (np.flatnonzero(~np.isnan(xy[:, 0])) for xy in (truth_xy, pred_xy))
    distances = cdist(truth_xy[of_truth], pred_xy[of_pred])
    rows, columns = linear_sum_assignment(distances)
    near = distances[rows, columns] <= radius
    rows, columns = rows[near], columns[near]
    return CentroidPairs(of_truth[rows], of_pred[columns], distances[rows, columns], truth.class_ids, pred.class_ids)


def centroid_scores(images: Sequence[CentroidPairs], n_classes: int) -> CentroidScores:
    """F_d and F_c over the pairs of any number of images.

    With the pairs that hold class t on either side: TP both are t, FP only the prediction is, FN only the truth is; and
    with the unpaired cells of class t, FP_d predicted and FN_d true ones,

        F_c(t) = 2 TP / (2 TP + 2 FP + 2 FN + FP_d + FN_d).

    The paper also adds the pairs of other classes that agree (TN) to TP; its published code restricts the pairs to
    those that hold t, where TN is always 0. The published figures come from that code, and so do these.

    Args:
        images: one entry an image.
        n_classes: K; class ids are 1 … K.
    """
    table = np.zeros((n_classes + 1, n_classes + 1), np.int64)  # true by predicted class, 0 for no partner
    for pairs in images:
        t, p = pairs.truth_classes, pairs.pred_classes
        np.add.at(table, (t[pairs.truth], p[pairs.pred]), 1)
        table[:, 0] += np.bincount(np.delete(t, pairs.truth), minlength=n_classes + 1)
        table[0] += np.bincount(np.delete(p, pairs.pred), minlength=n_classes + 1)
    paired, lone_truth, lone_pred = table[1:, 1:], table[1:, 0], table[0, 1:]
    counts = Counts(tp=int(paired.sum()), fp=int(lone_pred.sum()), fn=int(lone_truth.sum()))
    tp = np.diag(paired)
    wrong_pred, wrong_truth = paired.sum(axis=0) - tp, paired.sum(axis=1) - tp
    errors = np.array(CLASS_WEIGHTS) @ np.stack([wrong_pred, wrong_truth, lone_pred, lone_truth])
    return CentroidScores(
        counts,
        counts.f1,
        float(tp.sum() / counts.tp) if counts.tp else float("nan"),
        tuple(_ratios(2 * tp, 2 * tp + errors)),
    )


def _ratios(part: NDArray[np.int64], whole: NDArray[np.float64]) -> list[float]:
    """`part / whole`, NaN where whole is 0."""
    out: list[float] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0).tolist()
    return out
