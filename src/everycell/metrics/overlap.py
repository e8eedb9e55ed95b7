"""One sparse overlap matrix for two sets of cells of one image; every metric on masks starts from it.

The matrix is the product of two sparse incidence matrices (cells by pixels), so its cost grows with the cells'
pixels, never with the number of pairs or the image, and cells of one set may overlap each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from everycell.structures import MaskCrops


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
        shared = self.pixels.tocoo()
        union = self.truth_areas[shared.row] + self.pred_areas[shared.col] - shared.data
        return csr_array((shared.data / union, (shared.row, shared.col)), shape=self.pixels.shape)


def overlap(truth: MaskCrops, pred: MaskCrops) -> Overlap:
    """Overlap of two sets of cells in the same image frame."""
    truth_cells, truth_places = _places(truth)
    pred_cells, pred_places = _places(pred)
    places, columns = np.unique(np.concatenate([truth_places, pred_places]), return_inverse=True)
    of_truth = _incidence(truth_cells, columns[: len(truth_cells)], (len(truth), len(places)))
    of_pred = _incidence(pred_cells, columns[len(truth_cells) :], (len(pred), len(places)))
    return Overlap(csr_array(of_truth @ of_pred.T), truth.areas(), pred.areas())


def overlap_of_labels(truth: NDArray[Any], pred: NDArray[Any]) -> Overlap:
    """Overlap of two label images, integers [H, W], 0 is background; cells in ascending order of their values."""
    assert truth.shape == pred.shape
    truth_values, pred_values = np.unique(truth), np.unique(pred)
    rows, columns = np.searchsorted(truth_values, truth.ravel()), np.searchsorted(pred_values, pred.ravel())
    counts = _incidence(rows, columns, (len(truth_values), len(pred_values)))
    truth_areas, pred_areas = counts.sum(axis=1), counts.sum(axis=0)
    cells = counts[truth_values != 0][:, pred_values != 0]
    return Overlap(cells, truth_areas[truth_values != 0], pred_areas[pred_values != 0])


def set_pixels(masks: MaskCrops) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Every set pixel of every cell, as (number of the cell, x, y), int64 each."""
    on = np.flatnonzero(masks.bits)
    cells = np.searchsorted(masks.starts, on, side="right") - 1
    x0, y0, x1, _ = masks.boxes.astype(np.int64).T[:, cells]
    down, right = np.divmod(on - masks.starts[cells], x1 - x0)
    return cells, x0 + right, y0 + down


def _places(masks: MaskCrops) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every set pixel of every cell, as (number of the cell, place of the pixel), int64 each."""
    cells, x, y = set_pixels(masks)
    return cells, (y << 32) + x  # 32 bits each for y and x: no image is wider


def _incidence(rows: NDArray[Any], columns: NDArray[Any], shape: tuple[int, int]) -> csr_array:
    """How often each (row, column) occurs, sparse int64."""
    return csr_array((np.ones(len(rows), np.int64), (rows, columns)), shape=shape)
