"""How well the outlines of matched cells agree: boundary F1 and Hausdorff distance.

The boundary of a cell is those of its pixels that have one of their four neighbours outside the cell; beyond the
image's edge is outside. Distances are Euclidean, between pixel centres, from each boundary pixel of one cell to the
nearest one of its partner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from everycell.metrics.lengths import length_px
from everycell.metrics.matching import Matches
from everycell.structures import Instances, MaskCrops
from everycell.structures.runs import Rows

TOLERANCE_PX = 2.0
"""Our choice: with cells, the published 0.75 % of the image's diagonal would be wider than many of them."""

_BATCH = 2**17
"""Distances held at once: few enough for the processor's cache, many enough to make Python's share small."""


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
    precision, recall, hausdorff, hausdorff95 = np.zeros((4, n))
    for pairs, to_pred, to_truth in _distances(truth.masks.select(matches.truth), pred.masks.select(matches.pred)):
        recall[pairs], far_truth, far95_truth = _summary(to_pred, tolerance)
        precision[pairs], far_pred, far95_pred = _summary(to_truth, tolerance)
        hausdorff[pairs], hausdorff95[pairs] = np.maximum(far_truth, far_pred), np.maximum(far95_truth, far95_pred)
    return BoundaryAgreement(precision, recall, hausdorff, hausdorff95, truth.mpp)


def boundary_pixels(masks: MaskCrops) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Every boundary pixel of every cell, as (number of the cell, x, y), int64 each."""
    rows, bits = Rows.of(masks), masks.bits
    above, below = np.zeros_like(bits), np.zeros_like(bits)
    widths, starts = (masks.boxes[:, 2] - masks.boxes[:, 0]).tolist(), masks.starts.tolist()
    for width, start, end in zip(widths, starts, starts[1:], strict=False):
        if width < end - start:
            above[start + width : end] = bits[start : end - width]
            below[start : end - width] = bits[start + width : end]
    places = np.flatnonzero(bits & ~(rows.left(bits) & rows.right(bits) & above & below))
    row = rows.of_bits(places)
    cell = rows.cell[row]
    return cell, masks.boxes[cell, 0] + places - rows.first[row], rows.y[row]


@dataclass(frozen=True)
class _Outlines:
    """Boundary pixels of P cells.

    Attributes:
        x: int64 [K], cell after cell.
        y: int64 [K].
        sizes: int64 [P], how many each cell has.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, masks: MaskCrops) -> _Outlines:
        cell, x, y = boundary_pixels(masks)
        sizes = np.bincount(cell, minlength=len(masks))
        assert (sizes > 0).all(), "an empty cell is in a match"
        return cls(x, y, sizes)

    def padded(self, cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Places of G cells, int64 [G, K] each, the last pixel again where a cell has fewer; and where it has not."""
        sizes, starts = self.sizes[cells, None], (np.cumsum(self.sizes) - self.sizes)[cells, None]
        number = np.arange(sizes.max())
        places = starts + np.minimum(number, sizes - 1)
        return self.x[places], self.y[places], number < sizes


def _distances(
    truth: MaskCrops, pred: MaskCrops
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]]:
    """Distances between the boundaries of P pairs, in batches of G pairs of similar size.

    Yields:
        Which pairs, int64 [G]; from each true boundary pixel to the nearest predicted one, float64 [G, T]; from each
        predicted one to the nearest true one, float64 [G, Q]; both filled up with NaN.
    """
    low, high = np.minimum(truth.boxes, pred.boxes)[:, :2], np.maximum(truth.boxes, pred.boxes)[:, 2:]
    # Each pair lies at the origin, so that its coordinates are small.
    t, p = (_Outlines.of(MaskCrops(side.boxes - np.tile(low, 2), side.bits)) for side in (truth, pred))
    extents, n_distances = (high - low).max(axis=1), np.maximum(t.sizes, p.sizes) ** 2
    small = (n_distances <= _BATCH) & (extents <= 2**15)  # squared distances fit in int32
    for pair in np.flatnonzero(~small):
        one = np.array([pair])
        ends = [np.stack(side.padded(one)[:2], axis=-1)[0] for side in (t, p)]
        yield one, KDTree(ends[1]).query(ends[0])[0][None], KDTree(ends[0]).query(ends[1])[0][None]
    left = np.flatnonzero(small)[np.argsort(-n_distances[small])]
    while len(left):
        n = _BATCH // n_distances[left[0]]
        pairs, left = left[:n], left[n:]
        dtype = np.int16 if extents[pairs].max() <= 2**7 else np.int32
        yield pairs, *_nearest(t.padded(pairs), p.padded(pairs), dtype)


def _nearest(
    truth: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]],
    pred: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]],
    dtype: type[np.int16 | np.int32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances of `_distances`, from all pixels of one outline to all of the other; `dtype` holds their squares."""
    apart = (t[:, :, None].astype(dtype) - p[:, None].astype(dtype) for t, p in zip(truth[:2], pred[:2], strict=True))
    dx, dy = apart
    dx *= dx
    dy *= dy
    squares = np.add(dx, dy, out=dx)
    to_pred, to_truth = np.sqrt(squares.min(axis=2), dtype=np.float64), np.sqrt(squares.min(axis=1), dtype=np.float64)
    return np.where(truth[2], to_pred, np.nan), np.where(pred[2], to_truth, np.nan)


def _summary(
    distances: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of the distances of each row but NaN: share within the tolerance, maximum and 95th percentile."""
    ordered = np.sort(distances, axis=1)  # NaN last
    sizes = (~np.isnan(ordered)).sum(axis=1)
    rows = np.arange(len(ordered))
    place = 0.95 * (sizes - 1)
    low = place.astype(np.int64)
    below, above = ordered[rows, low], ordered[rows, np.minimum(low + 1, sizes - 1)]
    near = (ordered <= tolerance).sum(axis=1) / sizes
    return near, ordered[rows, sizes - 1], below + (place - low) * (above - below)
