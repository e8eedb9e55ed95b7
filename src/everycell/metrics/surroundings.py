"""Size of cells, how crowded they are, and how far from the image's edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from everycell.structures import Instances
from everycell.structures.runs import Runs, row_runs


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


def surroundings(cells: Instances, runs: Runs | None = None) -> Surroundings:
    """Measure the cells of one set in one image; `runs` are those of its masks, if they are at hand."""
    n = len(cells)
    height, width = cells.image_size
    runs = runs or row_runs(cells.masks)
    areas, centroids = runs.areas(), runs.centroids()
    full = np.flatnonzero(areas)  # cells that have any pixel
    first = np.searchsorted(runs.cell, full)  # where the runs of each begin
    edge, spacing = np.full(n, np.inf), np.full(n, np.inf)
    nearest_edge = np.minimum.reduce([runs.x0, runs.y, width - runs.x1, height - 1 - runs.y])
    edge[full] = np.minimum.reduceat(nearest_edge, first) if len(full) else []
    diameters = np.sqrt(4 * areas / np.pi)
    if len(full) > 1:
        distances, nearest = KDTree(centroids[full]).query(centroids[full], k=2)
        spacing[full] = 2 * distances[:, 1] / (diameters[full] + diameters[full[nearest[:, 1]]])
    return Surroundings(diameters, spacing, edge)
