"""Pyramidal OME-TIFF, written tile by tile in bounded memory."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

TILE_PX = 512
_UM_PER_CM = 10_000
_MAX_CLASSIC_BYTES = 2**31  # half of what a TIFF with 32-bit offsets holds
_ID_SPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "everycell")

Tile = Callable[[int, tuple[int, int, int, int]], NDArray[Any]]
"""Level (0 is the full resolution) and window (x0, y0, x1, y1; px of that level) → its pixels."""


def level_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of each level: each half of the one before, rounded up, until one tile holds the image."""
    sizes = [size]
    while max(sizes[-1]) > TILE_PX:
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


def level_tiles(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Windows (x0, y0, x1, y1) of the tiles of a level of `size`, row by row, cut off at the image's edge."""
    height, width = size
    for y in range(0, height, TILE_PX):
        for x in range(0, width, TILE_PX):
            yield x, y, min(x + TILE_PX, width), min(y + TILE_PX, height)


def write_pyramid(
    path: Path, name: str, tile: Tile, size: tuple[int, int], dtype: np.dtype[Any], mpp: float | None, **options: Any
) -> None:
    """Write `path`; the same name and tiles give the same bytes.

    Args:
        path: the file.
        name: of the image, in the OME metadata.
        tile: makes the tiles: all of a level, row by row, then those of the next smaller one.
        size: (height, width) of the full resolution.
        dtype: of the tiles.
        mpp: micrometres per pixel, for the OME metadata and the resolution tags.
        options: `samples`, 3 for RGB, and those of `tifffile.TiffWriter.write`, `compression` and so on.
    """
    samples = options.pop("samples", 1)
    tail = (samples,) if samples > 1 else ()
    sizes = level_sizes(size)
    metadata: dict[str, Any] = {"axes": "YXS" if tail else "YX", "Name": name}
    metadata["UUID"] = str(uuid.uuid5(_ID_SPACE, name))
    if mpp is not None:
        for axis in "XY":
            metadata |= {f"PhysicalSize{axis}": mpp, f"PhysicalSize{axis}Unit": "µm"}
    n_bytes = sum(h * w for h, w in sizes) * samples * dtype.itemsize
    with tifffile.TiffWriter(path, ome=True, bigtiff=n_bytes > _MAX_CLASSIC_BYTES) as tiff:
        for level, (height, width) in enumerate(sizes):
            scale: dict[str, Any] = {}
            if mpp is not None:
                scale = {"resolution": (_UM_PER_CM / (mpp * 2**level),) * 2, "resolutionunit": "CENTIMETER"}
            tiff.write(
                _padded(tile, level, (height, width), tail),
                shape=(height, width, *tail),
                dtype=dtype,
                tile=(TILE_PX, TILE_PX),
                metadata=metadata if level == 0 else None,
                subifds=len(sizes) - 1 if level == 0 else None,
                subfiletype=1 if level else 0,
                software="everycell" if level == 0 else False,
                maxworkers=1,
                **scale,
                **options,
            )


def _padded(tile: Tile, level: int, size: tuple[int, int], tail: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """Tiles of one level, whole also at the edge."""
    for window in level_tiles(size):
        pixels = tile(level, window)
        height, width = pixels.shape[:2]
        yield np.pad(pixels, ((0, TILE_PX - height), (0, TILE_PX - width), *((0, 0) for _ in tail)))
