"""Mask files and cells → instance labels, checked and numbered 1 … N."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io import read_raster
from everycell.structures import Image, Instances, Sample

MIN_INSTANCE_PX = 4
"""Instances with fewer pixels are left out and counted."""

_TABLE_LIMIT = 1 << 24  # label values up to here are renumbered through a table, larger ones by sorting


def read_mask(path: Path, size: tuple[int, int]) -> tuple[NDArray[np.int32], int, int]:
    """Read one instance mask: each distinct non-zero value is one instance, in one piece or several.

    Args:
        path: a mask of whole numbers ≥ 0, integer or float.
        size: (height, width) of its image, px.

    Returns:
        labels int32 [H, W] with values 1 … N in the order of the file's own, N, and how many were under 4 px.

    Raises:
        DataError: the mask cannot be read, has another size, or holds other values than whole numbers ≥ 0.
    """
    pixels = read_raster(path).pixels
    if pixels.shape[2] != 1:
        raise DataError(f"{path} has {pixels.shape[2]} channels; a mask has one value per pixel")
    if pixels.shape[:2] != size:
        got, expected = (f"{h} × {w}" for h, w in (pixels.shape[:2], size))
        raise DataError(f"{path} is {got} px, but its image is {expected} px (height × width)")
    return _renumber(_whole_numbers(pixels[..., 0], path))


def _whole_numbers(mask: NDArray[Any], path: Path) -> NDArray[Any]:
    """`mask` as integers or an error that names the first bad value."""
    if mask.dtype.kind in "bu":
        return mask
    bad = mask < 0
    if mask.dtype.kind == "f":
        bad |= ~(np.abs(mask) < 2**53) | (mask != np.trunc(mask))  # NaN, infinite, or too large to be exact
    if bad.any():
        y, x = np.argwhere(bad)[0].tolist()
        raise DataError(f"{path} holds {mask[y, x]} at row {y}, column {x}; a mask holds whole numbers from 0")
    return mask.astype(np.int64)


def _renumber(mask: NDArray[Any]) -> tuple[NDArray[np.int32], int, int]:
    if int(mask.max(initial=0)) < _TABLE_LIMIT:
        dense = mask.astype(np.intp)
    else:
        values, inverse = np.unique(mask, return_inverse=True)
        dense = inverse.reshape(mask.shape) + (values[0] != 0)
    areas = np.bincount(dense.ravel())
    areas[0] = 0
    kept = np.flatnonzero(areas >= MIN_INSTANCE_PX)
    table = np.zeros(len(areas), np.int32)
    table[kept] = np.arange(1, len(kept) + 1)
    return table[dense], len(kept), int((areas > 0).sum()) - len(kept)


def sample_of_cells(name: str, image: Image, cells: Instances) -> Sample:
    """An image with its true cells, which may overlap; those under 4 px are left out and counted."""
    kept = cells.select(cells.masks.areas() >= MIN_INSTANCE_PX)
    return Sample(name, image, _layers(kept), kept.class_ids, len(cells) - len(kept))


def _layers(cells: Instances) -> NDArray[np.int32]:
    """Label layers int32 [L, H, W]: each cell lies in the first one where it overlaps no cell before it."""
    layers = [np.zeros(cells.image_size, np.int32)]
    for number, (rows, columns, bits) in enumerate(cells.masks, start=1):
        free = (layer for layer in layers if not layer[rows, columns][bits].any())
        if (layer := next(free, None)) is None:
            layers.append(layer := np.zeros(cells.image_size, np.int32))
        layer[rows, columns][bits] = number
    return np.stack(layers)
