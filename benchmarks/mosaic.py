"""Large images of real cells: the images of a data set laid side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from everycell.datasets import open_dataset
from everycell.transforms import contrast_range, stretch

TILE_PX = 256


def crowded_images(data: Path, cells_per_megapixel: float, height_px: int) -> list[tuple[NDArray[np.uint8], int]]:
    """The most crowded images of one height, as many as together hold at least `cells_per_megapixel`.

    Each is stretched to its own contrast, as a slide has one contrast and not as many as it has places.

    Returns:
        (pixels uint8 [height_px, w, 3], number of true cells) pairs, most crowded first.
    """
    dataset = open_dataset(data)
    samples = [sample for sample in map(dataset.load, range(len(dataset))) if sample.image.size[0] == height_px]
    samples.sort(key=lambda sample: -len(sample.class_ids) / sample.image.size[1])
    chosen: list[tuple[NDArray[np.uint8], int]] = []
    cells, pixels = 0, 0
    for sample in samples:
        cells, pixels = cells + len(sample.class_ids), pixels + sample.image.pixels[..., 0].size
        if cells < cells_per_megapixel * pixels / 1e6 and chosen:
            break
        stretched = stretch(sample.image.pixels, contrast_range(sample.image.pixels))
        chosen.append(((stretched * 255).round().astype(np.uint8), len(sample.class_ids)))
    return chosen


def write_mosaic(path: Path, images: list[tuple[NDArray[np.uint8], int]], edge: int) -> float:
    """Lay images of one height in rows, each round in another order, into a square TIFF with tiles of 256 px.

    Returns:
        True cells; of an image that is cut at the edge its share by area.
    """
    rng, order, n_cells = np.random.default_rng(0), list[int](), 0.0
    raw = path.with_suffix(".raw")
    pixels = np.memmap(raw, np.uint8, "w+", shape=(edge, edge, 3))
    for y in range(0, edge, images[0][0].shape[0]):
        x = 0
        while x < edge:
            order = order or rng.permutation(len(images)).tolist()
            image, count = images[order.pop()]
            part = image[: edge - y, : edge - x]
            pixels[y : y + part.shape[0], x : x + part.shape[1]] = part
            x, n_cells = x + image.shape[1], n_cells + count * part.size / image.size
    tifffile.imwrite(path, pixels, tile=(TILE_PX, TILE_PX), compression="zlib", photometric="rgb", bigtiff=True)
    raw.unlink()
    return n_cells
