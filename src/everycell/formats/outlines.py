"""Outlines that follow pixel edges, and back: exact both ways, so a polygon's area is its cell's pixel count.

Coordinates are those of full-resolution image files: the top left pixel covers (0, 0) to (1, 1), y points down.
Pixels that touch only at a corner belong to different parts, so every polygon is valid in the sense of OGC Simple
Features (06-103r4): rings are simple, and parts and holes touch in single points at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from everycell.structures import Instances, MaskCrops

Ring = list[tuple[float, float]]
"""Corners (x, y) in px, the first one repeated at the end."""

Polygon = list[Ring]
"""The outer ring, then the holes. Outer rings have a positive shoelace area, holes a negative one."""

# Bits of the four pixels around a corner, and the two patterns in which only diagonal pixels are set.
_TOP_LEFT, _TOP_RIGHT, _BOTTOM_LEFT, _BOTTOM_RIGHT = 1, 2, 4, 8
_FALLING, _RISING = _TOP_LEFT + _BOTTOM_RIGHT, _TOP_RIGHT + _BOTTOM_LEFT
_IS_CORNER = np.array([code not in (0, 3, 5, 10, 12, 15) for code in range(16)])


def trace(masks: MaskCrops) -> list[list[Polygon]]:
    """Outlines of N cells: for each cell its parts, none for a mask without pixels."""
    cell, x, y, code = _corners(masks)
    following = _link(cell, x, y, code).tolist()
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    rings: list[list[Ring]] = [[] for _ in range(len(masks))]
    visited = bytearray(len(points))
    for start, owner in enumerate(cell.tolist()):
        ring = []
        corner = start
        while not visited[corner]:
            visited[corner] = 1
            ring.append(points[corner])
            corner = following[corner]
        if ring:
            rings[owner].extend(_simple_rings(ring))
    return [_group(rings[i], bits, (columns.start, rows.start)) for i, (rows, columns, bits) in enumerate(masks)]


def _corners(masks: MaskCrops) -> tuple[NDArray[np.int64], ...]:
    """Where outlines turn: cell, x, y and pattern, int64 [M] each; a corner between diagonal pixels comes twice."""
    parts = [np.zeros((4, 0), np.int64)]
    for i, (rows, columns, bits) in enumerate(masks):
        padded = np.zeros((bits.shape[0] + 2, bits.shape[1] + 2), np.uint8)
        padded[1:-1, 1:-1] = bits
        code = padded[:-1, :-1] + 2 * padded[:-1, 1:] + 4 * padded[1:, :-1] + 8 * padded[1:, 1:]
        y, x = np.nonzero(_IS_CORNER[code])
        parts.append(np.stack([np.full(len(y), i), x + columns.start, y + rows.start, code[y, x]]))
    corners = np.concatenate(parts, axis=1)
    twice = 1 + np.isin(corners[3], (_FALLING, _RISING))
    return tuple(np.repeat(corners, twice, axis=1))


def _link(
    cell: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64], code: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The corner that follows each corner when the cell is kept on the right hand, int64 [M].

    Along every row of corners the outline's horizontal pieces join the 1st and 2nd, the 3rd and 4th and so on; along
    every column the vertical pieces do the same. The two copies of a diagonal corner are ordered such that the
    outline turns around the pixel it came along.
    """
    copy = np.zeros(len(cell), np.int64)
    copy[1:] = (cell[1:] == cell[:-1]) & (x[1:] == x[:-1]) & (y[1:] == y[:-1])
    following = np.empty(len(cell), np.int64)
    along_rows = np.lexsort((copy, x, y, cell))
    along_columns = np.lexsort((np.where(code == _RISING, 1 - copy, copy), y, x, cell))
    for order, forward_if in ((along_rows, _BOTTOM_RIGHT), (along_columns, _BOTTOM_LEFT)):
        first, second = order[0::2], order[1::2]
        forward = (code[first] & forward_if) > 0
        following[np.where(forward, first, second)] = np.where(forward, second, first)
    return following


def _simple_rings(ring: Ring) -> list[Ring]:
    """Cut a ring wherever it comes back to a corner, so that each piece passes a corner once; each is closed."""
    pieces: list[Ring] = []
    path: Ring = []
    place: dict[tuple[float, float], int] = {}
    for point in [*ring, ring[0]]:
        if point in place:
            start = place[point]
            pieces.append([*path[start:], point])
            for gone in path[start:]:
                del place[gone]
            del path[start:]
        place[point] = len(path)
        path.append(point)
    return pieces


def _group(rings: list[Ring], bits: NDArray[np.bool_], origin: tuple[int, int]) -> list[Polygon]:
    """Put each hole with the part it lies in."""
    if len(rings) <= 1:
        return [rings] if rings else []
    components, n_components = ndimage.label(bits)
    parts: list[Polygon] = [[] for _ in range(n_components)]
    for ring in rings:
        (xa, ya), (xb, yb) = ring[0], ring[1]
        # The pixel to the right of the first piece, seen along it.
        column = min(xa, xb) if xa != xb else (xa - 1 if yb > ya else xa)
        row = min(ya, yb) if ya != yb else (ya if xb > xa else ya - 1)
        part = parts[components[int(row) - origin[1], int(column) - origin[0]] - 1]
        part.insert(0 if _signed_area(ring) > 0 else len(part), ring)
    return parts


def _signed_area(ring: Ring) -> float:
    return sum(xa * yb - xb * ya for (xa, ya), (xb, yb) in pairwise(ring)) / 2


def fill(
    polygons: Iterable[Iterable[ArrayLike]], image_size: tuple[int, int]
) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """Pixels whose centre lies inside the polygons, by the even-odd rule.

    Args:
        polygons: one cell's parts of outer ring and holes [corners, 2], closed; corners need not be integers.
        image_size: (height, width), what lies outside is cut off.

    Returns:
        (x, y) of the window's top left pixel, and the window's bits, bool [h, w]; 0 x 0 when no centre is inside.
    """
    rings = [np.asarray(ring, np.float64)[:, :2] for polygon in polygons for ring in polygon]
    start = np.concatenate([ring[:-1] for ring in rings])
    end = np.concatenate([ring[1:] for ring in rings])
    # The centre of pixel k is at k + 0.5, so the first centre at or after v is that of pixel ceil(v - 0.5).
    height, width = image_size
    limits = np.ceil(np.stack([start.min(axis=0), start.max(axis=0)]) - 0.5)
    (x0, y0), (x1, y1) = np.clip(limits, 0, [width, height]).astype(np.int64)
    swap = start[:, 1:] > end[:, 1:]
    upper, lower = np.where(swap, end, start), np.where(swap, start, end)
    first = np.clip(np.ceil(upper[:, 1] - 0.5), y0, y1).astype(np.int64)
    n_rows = np.clip(np.ceil(lower[:, 1] - 0.5), y0, y1).astype(np.int64) - first
    edge = np.repeat(np.arange(len(first)), n_rows)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows) + first[edge]
    (xa, ya), (xb, yb) = upper[edge].T, lower[edge].T
    crossing = xa + (row + 0.5 - ya) / (yb - ya) * (xb - xa)
    column = np.clip(np.ceil(crossing - 0.5), x0, x1).astype(np.int64)
    crossings = np.zeros((y1 - y0, x1 - x0 + 1), np.int64)
    np.add.at(crossings, (row - y0, column - x0), 1)
    bits = np.cumsum(crossings[:, :-1], axis=1) % 2 == 1
    if not bits.any():
        return (0, 0), np.zeros((0, 0), np.bool_)
    return (int(x0), int(y0)), bits


def without_empty(cells: Instances) -> Instances:
    """`cells` but for those without any pixel, which are counted in `notes`."""
    seen = cells.masks.areas() > 0
    if seen.all():
        return cells
    note = f"{(~seen).sum()} of {len(cells)} outlines cover no pixel of the image and were left out"
    return replace(cells.select(seen), notes=(*cells.notes, note))


def crossing(polygons: Sequence[Sequence[NDArray[np.float64]]]) -> str | None:
    """Why and where the outlines of one cell cross themselves or each other; None where they do not.

    Rings that merely touch, or run back along themselves, leave no doubt about what is inside and pass.

    Args:
        polygons: parts of outer ring and holes; rings float64 [corners, 2], closed.
    """
    parts = [[shapely.polygons(ring) for ring in rings] for rings in polygons]
    if len(parts) == len(parts[0]) == 1 and shapely.is_valid(parts[0][0]):
        return None
    # Without a crossing, the rings' own areas add up to what they enclose together.
    areas = [[_area(ring) for ring in rings] for rings in polygons]
    inside = shapely.area(shapely.union_all([_between(shapely.make_valid(part)) for part in parts]))
    if math.isclose(inside, sum(2 * rings[0] - sum(rings) for rings in areas), rel_tol=1e-9, abs_tol=1e-9):
        return None
    return str(shapely.is_valid_reason(shapely.MultiPolygon([(outer, holes) for outer, *holes in polygons])))


def _between(rings: NDArray[Any]) -> Any:
    """What the first of some shapely polygons has outside all others."""
    return shapely.difference(rings[0], shapely.union_all(rings[1:]))


def _area(ring: NDArray[np.float64]) -> float:
    """What a ring encloses: a region that it winds around twice counts twice, one the other way round is taken off."""
    x, y = (ring - ring[0]).T
    return abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2
