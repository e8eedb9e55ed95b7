"""Tiles: pure geometry that knows no model.

A tile is a core and a halo around it. The cores cut the image into rectangles without gap or overlap, so a cell whose
centroid is in the image has exactly one owner. The halo gives the network the surroundings of the core's cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]
Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class Tile:
    """One piece of an image.

    Attributes:
        core: (x0, y0, x1, y1), px; the tile owns the cells whose centroid is in it.
        window: (x0, y0, x1, y1), px; the core and its halo, clipped to the image: what the network sees.
    """

    core: Window
    window: Window

    def owns(self, x: float, y: float, margin_px: float = 0.0) -> bool:
        """Whether the point (x, y) px lies in the core, or less than `margin_px` away from it."""
        x0, y0, x1, y1 = self.core
        return x0 - margin_px <= x < x1 + margin_px and y0 - margin_px <= y < y1 + margin_px


@dataclass(frozen=True)
class Tiling:
    """How an image is cut into tiles.

    Attributes:
        size: (height, width) of the image, px.
        tile_px: largest side of a window; an image that fits in it is one tile.
        halo_px: px around a core that the network sees but that belong to other tiles.
        multiple: cores begin on multiples of this, px.
    """

    size: tuple[int, int]
    tile_px: int
    halo_px: int
    multiple: int = 1

    def __post_init__(self) -> None:
        assert self.halo_px >= 0, self
        assert self.tile_px >= max(self.size) or self.tile_px - 2 * self.halo_px >= self.multiple, self

    @cached_property
    def rows(self) -> list[Span]:
        """(y0, y1) of the cores of each row of tiles, px."""
        return self._cuts(self.size[0])

    @cached_property
    def columns(self) -> list[Span]:
        """(x0, x1) of the cores of each column of tiles, px."""
        return self._cuts(self.size[1])

    @cached_property
    def tiles(self) -> list[Tile]:
        """All tiles, row by row: cores of equal size but for the last ones."""
        return [self._tile(column, row) for row in self.rows for column in self.columns]

    def owners(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Numbers of the tiles whose cores hold `points`, float64 [N, 2], (x, y) px: int64 [N]."""
        column, row = (
            (np.searchsorted([start for start, _ in spans], points[:, axis], side="right") - 1).clip(0)
            for axis, spans in enumerate((self.columns, self.rows))
        )
        numbers: NDArray[np.int64] = row * len(self.columns) + column
        return numbers

    def split(self, tile: Tile) -> list[Tile]:
        """The quarters of a tile with the same halo; two halves, or none, where a side would not shrink any more."""
        x0, y0, x1, y1 = tile.core
        columns, rows = self._halves((x0, x1), self.size[1]), self._halves((y0, y1), self.size[0])
        return [self._tile(column, row) for row in rows for column in columns] if len(columns) * len(rows) > 1 else []

    def cuts(self, window: Window, boxes: NDArray[np.int32], margin_px: int = 0) -> NDArray[np.bool_]:
        """Which cells `window` may have cut: those that reach, but for `margin_px`, a side of it inside the image.

        Args:
            window: of a tile.
            boxes: int32 [N, 4], xyxy, the cells' extents, px of the image.
            margin_px: how near the side counts as reaching it.

        Returns:
            bool [N].
        """
        height, width = self.size
        x0, y0, x1, y1 = window
        low = np.where(np.array([x0, y0]) > 0, (x0 + margin_px, y0 + margin_px), -1)
        far = 2 * max(self.size)
        high = np.where(np.array([x1, y1]) < (width, height), (x1 - margin_px, y1 - margin_px), far)
        reaches = np.concatenate([boxes[:, :2] <= low, boxes[:, 2:] >= high], axis=1)
        found: NDArray[np.bool_] = np.any(reaches, axis=1)
        return found

    def _tile(self, column: Span, row: Span) -> Tile:
        (u0, u1), (v0, v1) = self._seen(column, self.size[1]), self._seen(row, self.size[0])
        return Tile((column[0], row[0], column[1], row[1]), (u0, v0, u1, v1))

    def _seen(self, core: Span, side: int) -> Span:
        return max(0, core[0] - self.halo_px), min(side, core[1] + self.halo_px)

    def _cuts(self, side: int) -> list[Span]:
        if side <= self.tile_px:
            return [(0, side)]
        largest = (self.tile_px - 2 * self.halo_px) // self.multiple * self.multiple
        step = min(largest, math.ceil(side / math.ceil(side / largest) / self.multiple) * self.multiple)
        return [(start, min(start + step, side)) for start in range(0, side, step)]

    def _halves(self, core: Span, side: int) -> list[Span]:
        start, stop = core
        middle = start + math.ceil((stop - start) / 2 / self.multiple) * self.multiple
        # Cores far below their halo would be many, and their windows hardly smaller.
        if middle >= stop or 2 * (middle - start) < self.halo_px:
            return [core]
        halves = [(start, middle), (middle, stop)]
        seen, before = (self._seen(half, side) for half in halves), self._seen(core, side)
        return halves if any(v - u < before[1] - before[0] for u, v in seen) else [core]
