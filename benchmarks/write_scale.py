"""Time and memory of every output at whole-slide scale, each written in a process of its own; on Linux.

    python benchmarks/write_scale.py [--edges 6325 20000] [--outputs labels.tif …] [--out benchmarks/write_scale.json]

Drawn cells of about 20 px, one on each 63×63 px of a square image, so 20,000 px a side hold 100,000; every tenth has a
hole, every twentieth is in two parts, and neighbours may overlap. They come in batches of 500, row by row. `measure` is
the time of the measurement table, which some outputs take; it is not part of their own time. `memory` is what the
process's peak lies above what it held when the first batch was made. CPU seconds of one process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everycell.datasets import synthetic_sample
from everycell.files import write_bytes
from everycell.formats import (
    AnnDataWriter,
    CocoWriter,
    GeoJsonWriter,
    ImagejRoiWriter,
    LabelImageWriter,
    LabelZarrWriter,
    StreamWriter,
    TableWriter,
    measure,
)
from everycell.plot import OverlayPyramidWriter
from everycell.structures import Instances, MaskCrops

MPP, STEP_PX, BATCH = 0.5, 63, 500
MEASURED = ("geojson", "geojson.gz", "cells.csv", "cells.parquet", "h5ad")


class Pixels:
    """An image of any size, made where it is read."""

    def read(self, window: tuple[int, int, int, int], /) -> NDArray[np.uint8]:
        """As `ImageSource.read`."""
        x0, y0, x1, y1 = window
        gray = (np.arange(y0, y1)[:, None] * 3 + np.arange(x0, x1)).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)


PIXELS = Pixels()
WRITERS: dict[str, Callable[[Path, tuple[int, int]], StreamWriter]] = {
    "labels.tif": lambda path, size: LabelImageWriter(path, size, MPP),
    "labels.zarr": lambda path, size: LabelZarrWriter(path, size, MPP),
    "coco.json": lambda path, size: CocoWriter(path),
    "geojson": lambda path, size: GeoJsonWriter(path),
    "geojson.gz": lambda path, size: GeoJsonWriter(path),
    "rois.zip": lambda path, size: ImagejRoiWriter(path),
    "cells.csv": lambda path, size: TableWriter(path, size, MPP),
    "cells.parquet": lambda path, size: TableWriter(path, size, MPP),
    "h5ad": lambda path, size: AnnDataWriter(path, size, MPP),
    "overlay.tif": lambda path, size: OverlayPyramidWriter(path, PIXELS, size, MPP),
}


def crops(rng: np.random.Generator) -> list[NDArray[np.bool_]]:
    """Shapes to choose from."""
    cells = synthetic_sample(rng, (1000, 1000), 400, diameter_px=20).to_instances()
    shapes = [bits.copy() for _, _, bits in cells.masks]
    for i, bits in enumerate(shapes):
        height, width = bits.shape
        if i % 10 == 0:
            bits[height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1] = False
        if i % 20 == 5:
            bits[height // 2] = False
    return shapes


def batches(edge: int) -> Iterator[Instances]:
    rng = np.random.default_rng(0)
    shapes, per_row = crops(rng), edge // STEP_PX
    for first in range(0, per_row**2, BATCH):
        places = np.arange(first, min(first + BATCH, per_row**2))
        corners = np.stack([places % per_row, places // per_row], axis=1) * STEP_PX
        origins = corners + rng.integers(0, STEP_PX - 30, corners.shape)
        masks = MaskCrops.from_crops(origins, [shapes[i] for i in rng.integers(0, len(shapes), len(places))])
        yield Instances.from_masks(
            masks,
            (edge, edge),
            scores=rng.random(len(places)).astype(np.float32),
            class_ids=rng.integers(1, 5, len(places)),
            mpp=MPP,
            class_names=("epithelial", "immune", "stroma", "other"),
        )


def memory_mb(what: str) -> float:
    """The process's `VmRSS`, or `VmHWM`, its peak; what `getrusage` says begins with the parent's."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[what].split()[0]) * 1024 / 1e6


def write(name: str, edge: int, folder: Path) -> dict[str, Any]:
    """Write one output; its row of the result."""
    writer = WRITERS[name](folder / f"a.{name}", (edge, edge))
    n_cells, measuring, writing, before = 0, 0.0, 0.0, 0.0
    for batch in batches(edge):
        if not n_cells:
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before = memory_mb("VmRSS")
        start = time.process_time()
        table = measure(batch, PIXELS, image="a", first_cell=n_cells + 1) if name in MEASURED else None
        measuring += (measured := time.process_time()) - start
        writer.write(batch, table)
        writing += time.process_time() - measured
        n_cells += len(batch)
    start = time.process_time()
    writer.close()
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        "output": name,
        "edge_px": edge,
        "cells": n_cells,
        "measure_s": round(measuring, 2),
        "write_s": round(writing, 2),
        "close_s": round(time.process_time() - start, 2),
        "memory_mb": round(memory_mb("VmHWM") - before),
        "file_mb": round(sum(path.stat().st_size for path in files) / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, nargs="+", default=[6325, 20_000])
    parser.add_argument("--outputs", nargs="+", choices=list(WRITERS), default=list(WRITERS))
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    rows = []
    for name in options.outputs:
        for edge in options.edges:
            with (
                tempfile.TemporaryDirectory(dir=options.out and options.out.parent) as folder,
                multiprocessing.get_context("spawn").Pool(1) as alone,
            ):
                rows.append(alone.apply(write, (name, edge, Path(folder))))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if options.out is not None:
        document = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {name: version(name) for name in ("everycell", "numpy", "tifffile", "zarr", "shapely")},
            "outputs": rows,
        }
        write_bytes(options.out, json.dumps(document, indent=2).encode() + b"\n")


if __name__ == "__main__":
    main()
