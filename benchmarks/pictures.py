"""Images that speed is measured on: real tissue, generated crowds, and a mosaic of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from everycell.datasets import open_dataset, synthetic_sample
from everycell.structures import Instances, Sample
from mosaic import crowded_images, write_mosaic

CELLS_PER_MEGAPIXEL = 700
TILE_PX = 256


@dataclass(frozen=True)
class Picture:
    """An image file with its truth, if that is known."""

    name: str
    path: Path
    size: tuple[int, int]
    n_truth: int
    truth: Instances | None = None

    @classmethod
    def of(cls, sample: Sample, name: str, folder: Path) -> Picture:
        """Write the image of a sample into `folder`."""
        path = folder / f"{name.replace('/', '_')}.tif"
        tifffile.imwrite(path, sample.image.pixels, tile=(TILE_PX, TILE_PX), compression="zlib", photometric="rgb")
        return cls(name, path, sample.image.size, len(sample.class_ids), sample.to_instances())


def real_pictures(data: Path, n: int, folder: Path) -> dict[str, list[Picture]]:
    """`n` images of each data set, evenly spread."""
    found = {}
    for name in ("tnbc", "consep4/train"):
        samples = open_dataset(data / name)
        chosen = np.unique(np.linspace(0, len(samples) - 1, n).astype(int)).tolist() if n else []
        found[name] = [Picture.of(s, f"{name.split('/')[0]} {s.name}", folder) for s in map(samples.load, chosen)]
    return found


def generated_picture(n_cells: int, folder: Path) -> Picture:
    """A crowd on as small a square as holds it well: 512 px for up to 400 cells, 2048 px for 6400."""
    side = next(side for side in (512, 1024, 2048, 4096) if n_cells <= side**2 / 650)
    sample = synthetic_sample(np.random.default_rng(0), (side, side), n_cells, diameter_px=18.0)
    return Picture.of(sample, f"generated {n_cells}", folder)


def mosaic_picture(data: Path, edge: int, folder: Path) -> Picture:
    """The most crowded tissue, laid side by side to `edge` px a side."""
    path = folder / "mosaic.tif"
    images = crowded_images(data / "consep4/train", CELLS_PER_MEGAPIXEL, 1000)
    n_truth = write_mosaic(path, images, edge)
    return Picture("mosaic of consep4", path, (edge, edge), round(n_truth))
