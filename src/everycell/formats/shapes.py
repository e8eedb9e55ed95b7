"""Shapes of masks, measured for all cells at once; values are those of `skimage.measure.regionprops`."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from everycell.structures import MaskCrops
from everycell.structures.runs import Runs, row_runs

# Length that a border pixel stands for, by 1 for itself, 2 for each border pixel at its side and 10 for each at its
# corners (Benkrid & Crookes 2000).
_STEPS = np.zeros(50)
_STEPS[[5, 7, 15, 17, 25, 27]] = 1
_STEPS[[21, 33]] = np.sqrt(2)
_STEPS[[13, 23]] = (1 + np.sqrt(2)) / 2
_TOLERANCE = 1e-9  # a pixel centre on the hull's edge is inside, however the division is rounded


def shapes(masks: MaskCrops) -> dict[str, NDArray[np.float64]]:
    """Centroid `x` and `y`, axes, eccentricity, perimeter and solidity of N masks, float64 [N] each, lengths in px."""
    runs = row_runs(masks)
    area, (x, y) = runs.areas(), runs.centroids().T
    with np.errstate(invalid="ignore", divide="ignore"):
        xx, yy, xy = _second_moments(runs, x, y) / area
        middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
        major, minor = middle + spread, np.maximum(middle - spread, 0)
        eccentricity = np.where(major == 0, 0.0, np.sqrt(1 - minor / major))
        solidity = area / hull_areas(runs)
    return {
        "x": x,
        "y": y,
        "perimeter": perimeters(masks),
        "major_axis": 4 * np.sqrt(major),
        "minor_axis": 4 * np.sqrt(minor),
        "equivalent_diameter": np.where(area > 0, np.sqrt(4 * area / np.pi), np.nan),
        "eccentricity": eccentricity,
        "solidity": solidity,
    }


def _second_moments(runs: Runs, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of dx², dy² and dx dy over the pixels of N cells around their centroids, float64 [3, N], px²."""
    length = runs.x1 - runs.x0
    dx, dy = (runs.x0 + runs.x1 - 1) / 2 - x[runs.cell], runs.y - y[runs.cell]
    within = (length**2 - 1) / 12  # mean of the squared distances to the middle of the run
    sums = [
        np.bincount(runs.cell, weights=length * squares, minlength=runs.n_cells)
        for squares in (dx**2 + within, dy**2, dx * dy)
    ]
    return np.array(sums, np.float64)


def perimeters(masks: MaskCrops) -> NDArray[np.float64]:
    """Length of the line through the centres of the border pixels (4-connected) of N masks, px; NaN without pixels."""
    framed, starts, widths = _framed(masks)
    places = np.flatnonzero(framed)
    cell = np.searchsorted(starts, places, side="right") - 1
    width = widths[cell]
    inside = framed[places - 1] & framed[places + 1] & framed[places - width] & framed[places + width]
    places, cell, width = places[~inside], cell[~inside], width[~inside]
    border = np.zeros(len(framed), np.uint8)
    border[places] = 1
    sides = sum(border[places + step] for step in (-1, 1, -width, width))
    corners = sum(border[places + step] for step in (-width - 1, -width + 1, width - 1, width + 1))
    length = np.bincount(cell, weights=_STEPS[1 + 2 * sides + 10 * corners], minlength=len(masks))
    return np.where(masks.areas() > 0, length, np.nan)


def _framed(masks: MaskCrops) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """The windows with a frame of one empty pixel around each: their bits, where each begins, and their widths."""
    sizes = (masks.boxes[:, 2:] - masks.boxes[:, :2]).astype(np.int64) + 2
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes.prod(axis=1))])
    bits = np.zeros(starts[-1], np.bool_)
    places = np.flatnonzero(masks.bits)
    cell = np.repeat(np.arange(len(masks)), masks.areas())
    rows, columns = np.divmod(places - masks.starts[cell], sizes[cell, 0] - 2)
    bits[starts[cell] + (rows + 1) * sizes[cell, 0] + columns + 1] = True
    return bits, starts[:-1], sizes[:, 0]


def hull_areas(runs: Runs) -> NDArray[np.float64]:
    """Pixels whose centre lies in the convex hull of each of N cells, float64 [N]; NaN without pixels.

    A pixel counts as the diamond through the middles of its sides, as in `skimage.morphology.convex_hull_image`.
    """
    # Only the ends of a row can be corners of the hull.
    ends_x, ends_y = np.concatenate([runs.x0, runs.x1 - 1]), np.tile(runs.y, 2)
    cell = np.tile(runs.cell, 2)
    x = np.concatenate([ends_x - 0.5, ends_x + 0.5, ends_x, ends_x])
    y = np.concatenate([ends_y, ends_y, ends_y - 0.5, ends_y + 0.5])
    owner = np.tile(cell, 4)
    order = np.argsort(owner, kind="stable")
    cells = np.flatnonzero(runs.areas())
    points = shapely.linestrings(np.stack([x, y], axis=1)[order], indices=np.searchsorted(cells, owner[order]))
    areas = np.full(runs.n_cells, np.nan)
    areas[cells] = _count_centres(shapely.convex_hull(points))
    return areas


def _count_centres(hulls: NDArray[np.object_]) -> NDArray[np.float64]:
    """Points of the integer grid inside each of M convex polygons or on its edge."""
    corners, polygon = shapely.get_coordinates(hulls, return_index=True)
    if not len(corners):
        return np.zeros(0)
    same = polygon[1:] == polygon[:-1]
    start, end, polygon = corners[:-1][same], corners[1:][same], polygon[1:][same]
    swap = start[:, 1] > end[:, 1]
    (xa, ya), (xb, yb) = np.where(swap, end.T, start.T), np.where(swap, start.T, end.T)
    first = np.ceil(ya).astype(np.int64)
    n_rows = np.floor(yb).astype(np.int64) - first + 1
    edge = np.repeat(np.arange(len(first)), n_rows)
    y = np.arange(len(edge)) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows) + first[edge]
    # A level edge lies half a pixel beside the rows, between diamonds, and so is in none of them.
    crossing = xa[edge] + (y - ya[edge]) / (yb - ya)[edge] * (xb - xa)[edge]
    return _spans(polygon[edge], y, crossing, len(hulls))


def _spans(
    polygon: NDArray[np.int64], y: NDArray[np.int64], crossing: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Whole numbers between the lowest and the highest crossing of each row, summed over each of `n` polygons."""
    order = np.lexsort((crossing, y, polygon))
    polygon, y, crossing = polygon[order], y[order], crossing[order]
    new = np.append(True, (polygon[1:] != polygon[:-1]) | (y[1:] != y[:-1]))
    last = np.append(new[1:], True)
    width = np.floor(crossing[last] + _TOLERANCE) - np.ceil(crossing[new] - _TOLERANCE) + 1
    return np.bincount(polygon[new], weights=width, minlength=n).astype(np.float64)
