"""Tiles: pure geometry that knows no model.

A tile is a core and a halo around it. The cores cut the image into rectangles without gap or overlap, so a cell whose
centroid is in the image has exactly one owner. The halo gives the network the surroundings of the core's cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """One piece of an image.

    Attributes:
        core: (x0, y0, x1, y1), px; the tile owns the cells whose centroid is in it.
        window: (x0, y0, x1, y1), px; the core and its halo, clipped to the image: what the network sees.
    """

    core: tuple[int, int, int, int]
    window: tuple[int, int, int, int]

    def owns(self, x: float, y: float, margin_px: float = 0.0) -> bool:
        """Whether the point (x, y) px lies in the core, or less than `margin_px` away from it."""
        x0, y0, x1, y1 = self.core
        return x0 - margin_px <= x < x1 + margin_px and y0 - margin_px <= y < y1 + margin_px


def tile_image(size: tuple[int, int], tile_px: int, halo_px: int, *, multiple: int = 1) -> list[Tile]:
    """Cut an image into tiles, row by row.

    Args:
        size: (height, width) of the image, px.
        tile_px: largest side of a window.
        halo_px: px around the core that the network sees but that belong to other tiles.
        multiple: cores begin on multiples of this.

    Returns:
        One tile when the image fits in `tile_px`; else cores of equal size but for the last ones.
    """
    assert halo_px >= 0 and tile_px - 2 * halo_px >= multiple, (tile_px, halo_px, multiple)
    rows, columns = (_cuts(side, tile_px, halo_px, multiple) for side in size)
    return [
        Tile(
            (x0, y0, x1, y1),
            (max(0, x0 - halo_px), max(0, y0 - halo_px), min(size[1], x1 + halo_px), min(size[0], y1 + halo_px)),
        )
        for y0, y1 in rows
        for x0, x1 in columns
    ]


def _cuts(side: int, tile_px: int, halo_px: int, multiple: int) -> list[tuple[int, int]]:
    if side <= tile_px:
        return [(0, side)]
    largest = (tile_px - 2 * halo_px) // multiple * multiple
    step = min(largest, math.ceil(side / math.ceil(side / largest) / multiple) * multiple)
    starts = range(0, side, step)
    return [(start, min(start + step, side)) for start in starts]
