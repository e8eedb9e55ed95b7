"""Size of cells, how crowded they are, and how far from the image's edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from everycell.metrics.overlap import set_pixels
from everycell.structures import Instances


@dataclass(frozen=True)
class Surroundings:
    """Size and place of N cells of one set.

    Attributes:
        diameter_px: float64 [N], of the disc with the cell's area.
        spacing: float64 [N], distance between the centroids of the cell and its nearest neighbour in the same set,
            over the mean of their two diameters: 1 where two equal discs touch, inf for a cell that is alone.
        edge_px: float64 [N], pixels between the cell and the nearest edge of the image, 0 where it touches it.
    """

    diameter_px: NDArray[np.float64]
    spacing: NDArray[np.float64]
    edge_px: NDArray[np.float64]


def surroundings(cells: Instances) -> Surroundings:
    """Measure the cells of one set in one image."""
    n = len(cells)
    height, width = cells.image_size
    owner, x, y = set_pixels(cells.masks)
    first = np.flatnonzero(np.diff(owner, prepend=-1))  # where the pixels of each cell begin
    full = owner[first]  # cells that have any pixel
    edge, spacing = np.full(n, np.inf), np.full(n, np.inf)
    edge[full] = np.minimum.reduceat(np.minimum.reduce([x, y, width - 1 - x, height - 1 - y]), first)
    areas = cells.masks.areas()
    diameters = np.sqrt(4 * areas / np.pi)
    if len(full) > 1:
        centroids = np.stack([np.add.reduceat(axis, first) / areas[full] for axis in (x, y)], axis=1)
        distances, nearest = KDTree(centroids).query(centroids, k=2)
        spacing[full] = 2 * distances[:, 1] / (diameters[full] + diameters[full[nearest[:, 1]]])
    return Surroundings(diameters, spacing, edge)
