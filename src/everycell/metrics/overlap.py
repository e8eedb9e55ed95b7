"""One sparse overlap matrix for two sets of cells of one image; every metric on masks starts from it.

Rows are cut into stretches that lie in the same cells throughout. The matrix is the product of two sparse incidence
matrices (cells by stretches), so its cost grows with the cells' outlines, never with the number of pairs or the image,
and cells of one set may overlap each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from everycell.structures import Instances, MaskCrops
from everycell.structures.runs import Runs, row_runs


@dataclass(frozen=True)
class Overlap:
    """Shared pixels of N true and M predicted cells.

    Attributes:
        pixels: sparse int64 [N, M], pixels that true cell `i` and predicted cell `j` share; absent where none.
        truth_areas: int64 [N], px.
        pred_areas: int64 [M], px.
    """

    pixels: csr_array
    truth_areas: NDArray[np.int64]
    pred_areas: NDArray[np.int64]

    def __post_init__(self) -> None:
        assert self.pixels.shape == (len(self.truth_areas), len(self.pred_areas))

    def iou(self) -> csr_array:
        """Intersection over union, sparse float64 [N, M], with an entry for every pair that shares a pixel."""
        return self._iou

    @cached_property
    def _iou(self) -> csr_array:
        shared = self.pixels.tocoo()
        union = self.truth_areas[shared.row] + self.pred_areas[shared.col] - shared.data
        return csr_array((shared.data / union, (shared.row, shared.col)), shape=self.pixels.shape)


@dataclass(frozen=True)
class Overlaps:
    """The overlap of two sets of cells as they are, and after every pixel went to one cell of its set.

    Attributes:
        raw: of all cells as they are.
        flat: of what is left when pixels that several cells of a set share belong to the one with the highest score
            alone, as in label images; cells that then have no pixel are left out.
        flat_truth: int64 [rows of `flat`], the true cells it holds, ascending.
        flat_pred: int64 [columns of `flat`], the predicted cells it holds, ascending.
    """

    raw: Overlap
    flat: Overlap
    flat_truth: NDArray[np.int64]
    flat_pred: NDArray[np.int64]


def overlap(truth: MaskCrops, pred: MaskCrops) -> Overlap:
    """Overlap of two sets of cells in the same image frame."""
    return _raw(*_cut(row_runs(truth), row_runs(pred)))


def overlaps(truth: Instances, pred: Instances, runs: tuple[Runs, Runs] | None = None) -> Overlaps:
    """Overlap of two sets of cells of one image as they are, and with shared pixels given to the highest score.

    Args:
        truth: true cells.
        pred: predicted cells of the same image.
        runs: those of both, if they are at hand.
    """
    assert truth.image_size == pred.image_size
    of_truth, of_pred, length = _cut(*(runs or (row_runs(truth.masks), row_runs(pred.masks))))
    raw = _raw(of_truth, of_pred, length)
    flat = _tally(_owners(of_truth, truth.scores), _owners(of_pred, pred.scores), length, raw.pixels.shape)
    left, right = np.flatnonzero(flat.truth_areas), np.flatnonzero(flat.pred_areas)
    flat = Overlap(flat.pixels[left][:, right], flat.truth_areas[left], flat.pred_areas[right])
    return Overlaps(raw, flat, left, right)


def overlap_of_labels(truth: NDArray[Any], pred: NDArray[Any]) -> Overlap:
    """Overlap of two label images, integers [H, W], 0 is background; cells in ascending order of their values."""
    assert truth.shape == pred.shape
    truth, pred = truth.ravel(), pred.ravel()
    changes = (truth[1:] != truth[:-1]) | (pred[1:] != pred[:-1])
    starts = np.flatnonzero(np.append(len(truth) > 0, changes))
    length = np.diff(starts, append=len(truth))
    n_truth, of_truth = _numbered(truth[starts])
    n_pred, of_pred = _numbered(pred[starts])
    return _tally(of_truth, of_pred, length, (n_truth, n_pred))


def _cut(truth: Runs, pred: Runs) -> tuple[csr_array, csr_array, NDArray[np.int64]]:
    """Cut both sets wherever a run of either begins or ends.

    Returns:
        Which true and which predicted cells hold which of S stretches, sparse int64 [N, S] and [M, S] of ones, and the
        lengths of the stretches, int64 [S], px.
    """
    sides = (truth, pred)
    # 32 bits each for y and x: no image is wider.
    parts = [(side.y << 32) + x for side in sides for x in (side.x0, side.x1)]
    ends = np.concatenate(parts)
    order = np.argsort(ends, kind="stable")  # twice as fast as np.unique: each cell's ends are in order
    new = np.diff(ends[order], prepend=-1) > 0
    number = np.empty(len(ends), np.int64)
    number[order] = np.cumsum(new) - 1
    places = ends[order][new]
    numbers = np.split(number, np.cumsum([len(part) for part in parts])[:-1])
    incidences = []
    for side, first, stop in zip(sides, numbers[::2], numbers[1::2], strict=True):
        n_pieces = stop - first
        within = np.arange(n_pieces.sum()) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
        rows, columns = np.repeat(side.cell, n_pieces), np.repeat(first, n_pieces) + within
        ones = np.ones(len(columns), np.int64)
        incidences.append(csr_array((ones, (rows, columns)), shape=(side.n_cells, len(places))))
    return incidences[0], incidences[1], np.diff(places, append=places[-1:])


def _raw(of_truth: csr_array, of_pred: csr_array, length: NDArray[np.int64]) -> Overlap:
    """Overlap of cells that are cut into stretches."""
    pixels = csr_array((length[of_truth.indices], of_truth.indices, of_truth.indptr), shape=of_truth.shape)
    return Overlap(csr_array(pixels @ of_pred.T), of_truth @ length, of_pred @ length)


def _owners(pieces: csr_array, scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Number of the cell that each stretch belongs to as in `Instances.to_labels`, counted from 1; 0 for none."""
    worst_first = np.argsort(scores, kind="stable")
    rank = np.empty(len(scores), np.int64)
    rank[worst_first] = np.arange(len(scores))
    best = np.full(pieces.shape[1], -1)
    np.maximum.at(best, pieces.indices, np.repeat(rank, np.diff(pieces.indptr)))
    return np.append(worst_first + 1, 0)[best]


def _numbered(values: NDArray[Any]) -> tuple[int, NDArray[np.int64]]:
    """How many cells there are among the values, and the values as 1 … N in their order, 0 for background."""
    cells = np.unique(values[values != 0])
    return len(cells), np.where(values != 0, np.searchsorted(cells, values) + 1, 0)


def _tally(
    truth: NDArray[np.int64], pred: NDArray[np.int64], length: NDArray[np.int64], shape: tuple[int, int]
) -> Overlap:
    """Overlap of N true and M predicted cells (`shape`) from the cell of each stretch, 1 … N and 1 … M, 0 for none."""
    areas = [
        np.bincount(cells, length, minlength=n + 1)[1:].astype(np.int64)
        for cells, n in zip((truth, pred), shape, strict=True)
    ]
    both = (truth > 0) & (pred > 0)
    return Overlap(csr_array((length[both], (truth[both] - 1, pred[both] - 1)), shape=shape), *areas)
