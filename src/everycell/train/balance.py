"""Class-balanced sampling: images and places in them, drawn so that rare classes come up more."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from everycell.structures import Sample

_ANYWHERE = 0.5  # crops that all lie around cells would never show what has none


class ClassBalance:
    """Class-aware sampling (Shen, Lin & Huang 2016), in degrees.

    Images without cells keep their share of draws, and so does half of the others', for places anywhere in them. The
    rest goes to class c with probability proportional to cells(c) ** (1 - strength): 1 draws all classes equally often,
    0 as often as they occur. Then an image that holds the class is drawn by its weight, however many cells it holds.

    Attributes:
        table: float64 [images, K + 1], probability of each image and class; class 0 stands for any place.
    """

    def __init__(self, cells: NDArray[np.int64], weights: NDArray[np.int64], strength: float) -> None:
        """Work out the table.

        Args:
            cells: int64 [images, K], cells of each class.
            weights: int64 [images], how often an image comes up apart from its classes.
            strength: 0 … 1.
        """
        anywhere = np.where(cells.any(axis=1), _ANYWHERE, 1.0) * weights / weights.sum()
        holds = (cells > 0) * weights[:, None]
        occurring = cells.sum(axis=0)
        classes = np.where(occurring > 0, occurring.clip(min=1) ** (1.0 - strength), 0.0)
        chances = (1 - anywhere.sum()) * classes / max(classes.sum(), 1.0)
        self.table: NDArray[np.float64] = np.column_stack([anywhere, holds / holds.sum(axis=0).clip(min=1) * chances])

    def draw_images(self, count: int, generator: Generator) -> list[int]:
        """Positions of `count` images, each drawn anew."""
        chances = torch.from_numpy(self.table.sum(axis=1))
        return torch.multinomial(chances, count, replacement=True, generator=generator).tolist()

    def draw_class(self, position: int, generator: Generator) -> int:
        """A class that the image at `position` holds, to draw a cell of; 0 for any place."""
        return int(torch.multinomial(torch.from_numpy(self.table[position]), 1, generator=generator))


def draw_cell(sample: Sample, class_id: int, generator: Generator) -> tuple[float, float]:
    """Centre (y, x) of a cell of a class, each equally likely, px of the image."""
    values = np.flatnonzero(sample.class_ids == class_id) + 1
    value = values[int(torch.randint(len(values), (), generator=generator))]
    _, y, x = np.nonzero(sample.layers == value)
    return float(y.mean()), float(x.mean())


def window_around(
    centre: tuple[float, float], size: tuple[int, int], side_px: float, generator: Generator
) -> tuple[slice, slice]:
    """A square window of `side_px` at random with `centre` (y, x) in its middle half, as far as the image reaches."""
    slices = []
    for middle, limit in zip(centre, size, strict=True):
        extent = min(limit, max(1, round(side_px)))
        shift = 0.25 + 0.5 * float(torch.rand((), generator=generator))
        start = min(max(0, round(middle - shift * extent)), limit - extent)
        slices.append(slice(start, start + extent))
    return slices[0], slices[1]
