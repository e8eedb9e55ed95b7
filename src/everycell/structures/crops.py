"""Masks as crops: memory grows with the area of the cells, never with N × H × W."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_MAX_LISTED = (
    1 << 20
)  # values up to here are looked up one by one, present or not; larger ones are renumbered by sorting


@dataclass(frozen=True)
class MaskCrops:
    """Binary masks of N cells, each stored only inside its own window.

    Attributes:
        boxes: int32 [N, 4], xyxy, half-open windows in pixels of the full image.
        bits: bool [sum of window areas], the windows' pixels one after the other, row by row.
    """

    boxes: NDArray[np.int32]
    bits: NDArray[np.bool_]

    def __post_init__(self) -> None:
        assert self.boxes.dtype == np.int32 and self.boxes.ndim == 2 and self.boxes.shape[1] == 4
        assert self.bits.dtype == np.bool_ and self.bits.shape == (self.starts[-1],)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """int64 [N + 1], where each window begins in `bits`."""
        sizes = (self.boxes[:, 2:] - self.boxes[:, :2]).astype(np.int64)
        assert (sizes >= 0).all()
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes.prod(axis=1))])

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[tuple[slice, slice, NDArray[np.bool_]]]:
        """Each cell as (rows, columns, bits [h, w]), so `image[rows, columns][bits]` are its pixels."""
        for (x0, y0, x1, y1), (start, end) in zip(self.boxes.tolist(), pairwise(self.starts.tolist()), strict=True):
            yield slice(y0, y1), slice(x0, x1), self.bits[start:end].reshape(y1 - y0, x1 - x0)

    def crop(self, i: int) -> NDArray[np.bool_]:
        """Bits of cell `i`, bool [h, w]; a view."""
        x0, y0, x1, y1 = self.boxes[i].tolist()
        return self.bits[self.starts[i] : self.starts[i + 1]].reshape(y1 - y0, x1 - x0)

    def areas(self) -> NDArray[np.int64]:
        """Pixels of each cell, int64 [N]."""
        areas = np.zeros(len(self), np.int64)
        filled = np.diff(self.starts) > 0
        if filled.any():
            areas[filled] = np.add.reduceat(self.bits, self.starts[:-1][filled], dtype=np.int64)
        return areas

    def select(self, index: NDArray[Any]) -> MaskCrops:
        """The cells at `index` (integers or a boolean mask over N), in that order."""
        picked = np.arange(len(self))[index]
        ends = zip(self.starts[picked].tolist(), self.starts[picked + 1].tolist(), strict=True)
        parts = [self.bits[start:end] for start, end in ends]
        return MaskCrops(self.boxes[picked], np.concatenate([np.zeros(0, np.bool_), *parts]))

    def shifted(self, dx: int, dy: int) -> MaskCrops:
        """The same cells moved by (dx, dy) pixels."""
        return MaskCrops(self.boxes + np.array([dx, dy, dx, dy], np.int32), self.bits)

    @classmethod
    def empty(cls) -> MaskCrops:
        """No cells."""
        return cls(np.zeros((0, 4), np.int32), np.zeros(0, np.bool_))

    @classmethod
    def from_crops(cls, origins: NDArray[Any], crops: Sequence[NDArray[np.bool_]]) -> MaskCrops:
        """Join separate crops.

        Args:
            origins: integers [N, 2], x and y of each crop's top left pixel in the full image.
            crops: N arrays, bool [h, w].
        """
        if not len(crops):
            return cls.empty()
        sizes = np.array([crop.shape[::-1] for crop in crops])
        boxes = np.concatenate([origins, origins + sizes], axis=1).astype(np.int32)
        return cls(boxes, np.concatenate([crop.ravel() for crop in crops]))

    @classmethod
    def from_labels(cls, labels: NDArray[Any]) -> tuple[MaskCrops, NDArray[np.int64]]:
        """Cells of a label image (integers [H, W], 0 is background), with their values, int64 [N], ascending."""
        distinct = None
        if labels.max(initial=0) >= _MAX_LISTED:
            distinct = np.unique(np.append(labels, labels.dtype.type(0)))
            labels = np.searchsorted(distinct, labels)
        windows = enumerate(ndimage.find_objects(labels.astype(np.int32, copy=False)), start=1)
        found = [(number, window) for number, window in windows if window is not None]
        crops = [labels[window] == number for number, window in found]
        origins = np.array([[columns.start, rows.start] for _, (rows, columns) in found]).reshape(-1, 2)
        numbers = np.array([number for number, _ in found], np.int64)
        return cls.from_crops(origins, crops), numbers if distinct is None else distinct[numbers].astype(np.int64)
