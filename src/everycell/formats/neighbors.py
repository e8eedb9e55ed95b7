"""Who is near whom: neighbours within a radius, and the local density of cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

_AT_ONCE = 65_536  # cells; bounds the memory that a search takes


@dataclass(frozen=True)
class Neighborhood:
    """The disc around a cell that counts as near.

    Attributes:
        radius_um: its radius where µm/px is known.
        radius_px: its radius where it is not.
    """

    radius_um: float = 50
    radius_px: float = 100

    def columns(
        self, centroids: NDArray[np.float64], image_size: tuple[int, int], mpp: float | None
    ) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """Columns of the measurement table, named after the radius.

        Args:
            centroids: float64 [N, 2] of all cells of the image, (x, y), px, the middle of the first pixel at 0; NaN for
                a cell without pixels, which is nobody's neighbour.
            image_size: (height, width), px.
            mpp: micrometres per pixel.

        Returns:
            `neighbors_50um` (int64 [N], other cells whose centroid is at most that far) and `density_50um_per_mm2`
            (float64 [N], these and the cell itself over that part of the disc which lies inside the image); or, without
            µm/px, `neighbors_100px` and `density_100px_per_px2`.
        """
        radius_px = self.radius_px if mpp is None else self.radius_um / mpp
        name = f"{self.radius_px:g}px" if mpp is None else f"{self.radius_um:g}um"
        count = _count(centroids, radius_px)
        density = (count + 1) / _area_inside(centroids + 0.5, radius_px, image_size)
        if mpp is None:
            return {f"neighbors_{name}": count, f"density_{name}_per_px2": density}
        return {f"neighbors_{name}": count, f"density_{name}_per_mm2": density / mpp**2 * 1e6}


DEFAULT_NEIGHBORHOOD = Neighborhood()


def add_neighbors(
    table: pd.DataFrame,
    image_size: tuple[int, int],
    mpp: float | None = None,
    neighborhood: Neighborhood = DEFAULT_NEIGHBORHOOD,
) -> pd.DataFrame:
    """The table of all cells of an image (see `measure`) with two more columns, see `Neighborhood.columns`."""
    centroids = table[["centroid_x_px", "centroid_y_px"]].to_numpy(np.float64)
    return table.assign(**neighborhood.columns(centroids, image_size, mpp))


def _count(points: NDArray[np.float64], radius: float) -> NDArray[np.int64]:
    """Other points at most `radius` from each, int64 [N]."""
    counts = np.zeros(len(points), np.int64)
    known = np.flatnonzero(np.isfinite(points).all(axis=1))
    tree = cKDTree(points[known])
    for some in np.split(known, range(_AT_ONCE, len(known), _AT_ONCE)):
        counts[some] = tree.query_ball_point(points[some], radius, return_length=True) - 1
    return counts


def _area_inside(centers: NDArray[np.float64], radius: float, image_size: tuple[int, int]) -> NDArray[np.float64]:
    """Area of the discs around N points, (x, y), that lies in the image, [0, W] × [0, H]; float64 [N]."""
    x, y = centers.T
    height, width = image_size
    left, right = (np.clip(side / radius, -1, 1) for side in (-x, width - x))
    top, bottom = (np.clip(side / radius, -1, 1) for side in (-y, height - y))
    quarters = _below(right, bottom) - _below(left, bottom) - _below(right, top) + _below(left, top)
    return quarters * radius**2


def _below(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area of the unit disc's part with x < a and y < b, both in -1 … 1."""
    chord = np.sqrt(1 - b**2)  # the line y = b meets the circle at x = ± chord
    near = np.clip(a, -chord, chord)
    strip = _half(near) - _half(-chord) + b * (near + chord)
    # Beyond the chord the line is outside the disc: nothing is below it, or all is.
    outside = _half(a) - _half(-np.ones_like(a)) - (_half(near) - _half(-chord))
    return strip + np.where(b > 0, 2 * outside, 0)


def _half(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integral of √(1 - x²) from 0 to t."""
    return (t * np.sqrt(1 - t**2) + np.arcsin(t)) / 2
