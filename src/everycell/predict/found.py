"""Cells on their way from tiles to the result: what was found, and by which tile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from everycell.structures import Instances, MaskCrops


@dataclass(frozen=True)
class Found:
    """Cells with the tile that found each.

    Attributes:
        cells: N cells, px of the full image.
        windows: int64 [N, 4], window of the tile; those of two tiles differ.
        cut: bool [N], the tile saw only a piece, as far as it can tell: the cell reaches a side of the window.
        numbers: int64 [N], order of finding, by tile: breaks ties of the score.
    """

    cells: Instances
    windows: NDArray[np.int64]
    cut: NDArray[np.bool_]
    numbers: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.cells)
        assert self.windows.shape == (n, 4) and self.cut.shape == (n,) and self.numbers.shape == (n,)

    def __len__(self) -> int:
        return len(self.cells)

    def select(self, index: NDArray[Any]) -> Found:
        """The cells at `index` (integers or a boolean mask over N), in that order."""
        return Found(self.cells.select(index), self.windows[index], self.cut[index], self.numbers[index])

    def ranking(self) -> NDArray[np.int64]:
        """Indices from the best cell to the worst: by score, then by number."""
        return np.lexsort((self.numbers, -self.cells.scores))

    def ranks(self) -> NDArray[np.int64]:
        """Place of each cell in that order, 0 is the best: int64 [N]."""
        return np.argsort(self.ranking())

    def numbered(self, first: int) -> Found:
        """The same cells, numbered from `first` on."""
        return replace(self, numbers=np.arange(first, first + len(self)))

    @classmethod
    def none(cls, cells: Instances) -> Found:
        """The form of a result without cells; `cells` is empty too."""
        return cls(cells, np.zeros((0, 4), np.int64), np.zeros(0, np.bool_), np.zeros(0, np.int64))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Found:
        """All cells of at least one part, one after the other."""
        return Found(
            join_instances([part.cells for part in parts]),
            np.concatenate([part.windows for part in parts]),
            np.concatenate([part.cut for part in parts]),
            np.concatenate([part.numbers for part in parts]),
        )


def join_instances(parts: Sequence[Instances]) -> Instances:
    """The cells of at least one part of the same image, one after the other; notes come once each."""
    masks = MaskCrops(
        np.concatenate([part.masks.boxes for part in parts]), np.concatenate([part.masks.bits for part in parts])
    )
    return replace(
        parts[0],
        boxes=np.concatenate([part.boxes for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        class_ids=np.concatenate([part.class_ids for part in parts]),
        masks=masks,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def neighbours(masks: MaskCrops) -> NDArray[np.int64]:
    """Pairs of cells whose windows share a pixel: int64 [P, 2], the smaller index first, ascending."""
    x0, y0, x1, y1 = masks.boxes.T
    # Half a pixel smaller, so that windows which only touch do not meet.
    boxes = shapely.box(x0 + 0.25, y0 + 0.25, x1 - 0.25, y1 - 0.25)
    pairs = shapely.STRtree(boxes).query(boxes).T
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    ordered: NDArray[np.int64] = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].astype(np.int64)
    return ordered


def hull(boxes: NDArray[Any]) -> NDArray[Any]:
    """The smallest box around at least one box [N, 4], xyxy: [4]."""
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def bits_inside(masks: MaskCrops, i: int, window: NDArray[Any]) -> NDArray[np.bool_]:
    """Bits of cell `i` where its own window meets `window` (x0, y0, x1, y1), bool [h, w]; a view."""
    left, top, *_ = masks.boxes[i].tolist()
    x0, y0, x1, y1 = window.tolist()
    return masks.crop(i)[max(y0 - top, 0) : max(y1 - top, 0), max(x0 - left, 0) : max(x1 - left, 0)]


def painted(masks: MaskCrops, index: Iterable[int], window: NDArray[Any]) -> NDArray[np.bool_]:
    """The pixels of `window` (x0, y0, x1, y1) that belong to any of the cells at `index`, bool [y1 - y0, x1 - x0]."""
    x0, y0, x1, y1 = window.tolist()
    canvas = np.zeros((y1 - y0, x1 - x0), np.bool_)
    for i in index:
        left, top = np.maximum(masks.boxes[i, :2] - (x0, y0), 0).tolist()
        bits = bits_inside(masks, i, window)
        canvas[top : top + bits.shape[0], left : left + bits.shape[1]] |= bits
    return canvas
