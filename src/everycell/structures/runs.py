"""Masks as runs: stretches of set pixels along the rows, a tenth of the numbers that single pixels would take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everycell.structures.crops import MaskCrops


@dataclass(frozen=True)
class Runs:
    """The set pixels of N cells as R runs, ascending by cell, row and column; two runs of a row do not touch.

    Attributes:
        n_cells: N.
        cell: int64 [R].
        y: int64 [R], px.
        x0: int64 [R], the first pixel, px.
        x1: int64 [R], the pixel after the last, px.
    """

    n_cells: int
    cell: NDArray[np.int64]
    y: NDArray[np.int64]
    x0: NDArray[np.int64]
    x1: NDArray[np.int64]

    def areas(self) -> NDArray[np.int64]:
        """Pixels of each cell, int64 [N]."""
        return self._sums(self.x1 - self.x0)

    def centroids(self) -> NDArray[np.float64]:
        """Mean pixel position of each cell, float64 [N, 2], (x, y) px; NaN for a cell without a pixel."""
        length = self.x1 - self.x0
        sums = np.stack([self._sums(length * (self.x0 + self.x1 - 1) // 2), self._sums(length * self.y)], axis=1)
        areas = self._sums(length)[:, None]
        means: NDArray[np.float64] = np.divide(sums, areas, out=np.full(sums.shape, np.nan), where=areas > 0)
        return means

    def _sums(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        totals = np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])
        ends = np.searchsorted(self.cell, np.arange(self.n_cells + 1))
        return np.diff(totals[ends])


@dataclass(frozen=True)
class Rows:
    """The R rows of the windows of all cells, in the order of the bits.

    Attributes:
        cell: int64 [R], whose window.
        y: int64 [R], px.
        first: int64 [R], the number of the row's first bit.
        last: int64 [R], the number of the row's last bit.
    """

    cell: NDArray[np.int64]
    y: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @classmethod
    def of(cls, masks: MaskCrops) -> Rows:
        """Rows without a pixel are left out."""
        x0, y0, x1, y1 = masks.boxes.astype(np.int64).T
        height = np.where(x1 > x0, y1 - y0, 0)
        cell = np.repeat(np.arange(len(masks)), height)
        ends = np.cumsum((x1 - x0)[cell])
        within = np.arange(len(cell)) - (np.cumsum(height) - height)[cell]
        return cls(cell, y0[cell] + within, ends - (x1 - x0)[cell], ends - 1)

    def of_bits(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the row that holds each of the bits at `places`, ascending."""
        begins = np.searchsorted(places, self.first)
        return np.repeat(np.arange(len(begins)), np.diff(begins, append=len(places)))

    def left(self, bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The left neighbour of each bit; False beyond the window."""
        moved = np.empty_like(bits)
        moved[1:] = bits[:-1]
        moved[self.first] = False
        return moved

    def right(self, bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The right neighbour of each bit; False beyond the window."""
        moved = np.empty_like(bits)
        moved[:-1] = bits[1:]
        moved[self.last] = False
        return moved


def row_runs(masks: MaskCrops) -> Runs:
    """The runs of N masks."""
    rows, bits = Rows.of(masks), masks.bits
    starts, lasts = np.flatnonzero(bits > rows.left(bits)), np.flatnonzero(bits > rows.right(bits))
    row = rows.of_bits(starts)
    cell = rows.cell[row]
    x0 = masks.boxes[cell, 0] + starts - rows.first[row]
    return Runs(len(masks), cell, rows.y[row], x0, x0 + lasts - starts + 1)
