"""How well the outlines of matched cells agree: boundary F1 and Hausdorff distance.

The boundary of a cell is those of its pixels that have one of their four neighbours outside the cell; beyond the
image's edge is outside. Distances are Euclidean, between pixel centres, from each boundary pixel of one cell to the
nearest one of its partner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from everycell.metrics.lengths import length_px
from everycell.metrics.matching import Matches
from everycell.metrics.overlap import set_pixels
from everycell.structures import Instances, MaskCrops

TOLERANCE_PX = 2.0
"""Our choice: with cells, the published 0.75 % of the image's diagonal would be wider than many of them."""


@dataclass(frozen=True)
class BoundaryAgreement:
    """Outlines of P matched pairs of one image, in the order of the matches.

    Attributes:
        precision: float64 [P], share of the predicted boundary within the tolerance of the true one.
        recall: float64 [P], share of the true boundary within the tolerance of the predicted one.
        hausdorff_px: float64 [P], the largest distance from either boundary to the other, px.
        hausdorff95_px: float64 [P], the same with the 95th percentile in place of the largest distance, px.
        mpp: µm per pixel, None when unknown.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    hausdorff_px: NDArray[np.float64]
    hausdorff95_px: NDArray[np.float64]
    mpp: float | None

    @property
    def f1(self) -> NDArray[np.float64]:
        """2 × precision × recall / (precision + recall), float64 [P], 0 where both are 0."""
        total = self.precision + self.recall
        return np.divide(2 * self.precision * self.recall, total, out=np.zeros(len(total)), where=total > 0)

    @property
    def mean_f1(self) -> float:
        """Mean boundary F1 of the pairs; NaN without any."""
        return float(self.f1.mean()) if len(self.precision) else float("nan")

    @property
    def hausdorff_um(self) -> NDArray[np.float64]:
        """The Hausdorff distance in µm, float64 [P]; NaN when µm per pixel are unknown."""
        return self.hausdorff_px * (np.nan if self.mpp is None else self.mpp)

    @property
    def hausdorff95_um(self) -> NDArray[np.float64]:
        """The 95th percentile in µm, float64 [P]; NaN when µm per pixel are unknown."""
        return self.hausdorff95_px * (np.nan if self.mpp is None else self.mpp)


def boundary_agreement(
    truth: Instances,
    pred: Instances,
    matches: Matches,
    *,
    tolerance_px: float = TOLERANCE_PX,
    tolerance_um: float | None = None,
) -> BoundaryAgreement:
    """Compare the outlines of the matched cells of one image; cells without a match have no part in it.

    With boundaries T and P and d(a, B) the distance from a to its nearest pixel of B,

        precision = share of p in P with d(p, T) <= tolerance, recall = share of t in T with d(t, P) <= tolerance,

    the boundary F1 of Csurka et al. 2013 ("What is a good evaluation measure for semantic segmentation?", BMVC), here
    for each cell, and

        Hausdorff = max(max of d(p, T) over P, max of d(t, P) over T),

    as in Huttenlocher et al. 1993 (IEEE Transactions on Pattern Analysis and Machine Intelligence 15(9)), who also put
    a percentile in place of both inner maxima; it is interpolated linearly.

    Args:
        truth: true cells.
        pred: predicted cells of the same image.
        matches: their pairs; no cell in it may be empty.
        tolerance_px: largest distance that counts as agreement.
        tolerance_um: the same in µm, by the µm per pixel of `truth`; replaces `tolerance_px`.

    Raises:
        DataError: `tolerance_um` is given for an image whose µm per pixel are unknown.
    """
    tolerance = length_px(tolerance_px, tolerance_um, truth.mpp)
    n = len(matches.truth)
    if not n:
        nothing = np.zeros(0)
        return BoundaryAgreement(nothing, nothing, nothing, nothing, truth.mpp)
    owners, points = _apart(truth.masks.select(matches.truth), pred.masks.select(matches.pred))
    recall, to_pred, to_pred95 = _directed(owners[0], points[0], points[1], n, tolerance)
    precision, to_truth, to_truth95 = _directed(owners[1], points[1], points[0], n, tolerance)
    return BoundaryAgreement(
        precision, recall, np.maximum(to_pred, to_truth), np.maximum(to_pred95, to_truth95), truth.mpp
    )


def boundary_pixels(masks: MaskCrops) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Every boundary pixel of every cell, as (number of the cell, x, y), int64 each."""
    cells, x, y = set_pixels(masks)
    x0, y0, x1, y1 = masks.boxes.astype(np.int64).T[:, cells]
    inner = (x > x0) & (x < x1 - 1) & (y > y0) & (y < y1 - 1)
    at, width = np.flatnonzero(masks.bits)[inner], (x1 - x0)[inner]
    bits = masks.bits
    inner[inner] = bits[at - 1] & bits[at + 1] & bits[at - width] & bits[at + width]
    return cells[~inner], x[~inner], y[~inner]


def _apart(*sides: MaskCrops) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Boundary pixels of each side as (pair, [x, y]), moved so far apart that the nearest one is of the same pair."""
    origin = np.minimum(*(side.boxes[:, :2] for side in sides)).astype(np.int64)
    extent = (np.maximum(*(side.boxes[:, 2:] for side in sides)) - origin).sum(axis=1).max()
    owners, points = [], []
    for side in sides:
        pair, x, y = boundary_pixels(side)
        owners.append(pair)
        points.append(np.stack([x - origin[pair, 0] + 2 * extent * pair, y - origin[pair, 1]], axis=1))
    return owners, points


def _directed(
    owner: NDArray[np.int64], points: NDArray[np.int64], others: NDArray[np.int64], n: int, tolerance: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of the distances from points to others: share within the tolerance, maximum and 95th percentile, [n] each."""
    distances, _ = KDTree(others).query(points)
    sizes = np.bincount(owner, minlength=n)
    assert (sizes > 0).all(), "an empty cell is in a match"
    ordered = distances[np.lexsort((distances, owner))]
    first = np.cumsum(sizes) - sizes
    place = 0.95 * (sizes - 1)
    low = place.astype(np.int64)
    below, above = ordered[first + low], ordered[first + np.minimum(low + 1, sizes - 1)]
    near = np.bincount(owner, distances <= tolerance, minlength=n) / sizes
    return near, ordered[first + sizes - 1], below + (place - low) * (above - below)
