"""Speed and memory of `everycell predict` on large images, beside stock torchvision on the same tiles.

    python benchmarks/predict_scale.py --data DIR [--edges 2000 5000 10000] [--replay 5000 20000] [--peer 1000]
                                       [--out benchmarks/predict_scale.json]

DIR is dsb2018: `images/` and `labels/`. Its most crowded images of 256 px height, as many as together hold 1000 true
cells per megapixel, are laid side by side, so 10,000 px a side hold 100,000. Each figure is a process of its own that
does what the command does, with label image, GeoJSON (gzip) and table; its proportional set size (PSS, Linux) is
summed over its process tree every half second; the peak of its resident memory, which counts shared pages in full, is
the kernel's own. "Outside the network" is the time in which no forward pass ran.

--replay runs the network on the first tile of each shape only and gives its cells to all others: memory and the work
around the network at sizes for which the network would take too long. --peer runs torchvision's `MaskRCNN` with the
same weights on the same tiles and pastes each mask into the full image: N × H × W bytes.

A run goes on in --out where an earlier one stopped: figures that are there are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

import everycell
from everycell.cli.batch import run_batch
from everycell.cli.settings import PredictSettings
from everycell.files import write_bytes
from everycell.io import open_source
from everycell.models import CellMaskRCNN
from everycell.transforms import contrast_range, stretch
from mosaic import crowded_images, write_mosaic
from stock import stock_network

CELLS_PER_MEGAPIXEL = 1000
HEIGHT_PX = 256
FORMATS = ("labels", "geojson.gz", "table")


def watch_network(*, replay: bool) -> list[float]:
    """Seconds of each forward pass from now on; with `replay` only the first of each image shape is a pass."""
    seconds: list[float] = []
    known: dict[torch.Size, Any] = {}
    forward = CellMaskRCNN.forward

    def timed(network: CellMaskRCNN, images: list[Tensor]) -> Any:
        start, shape = time.perf_counter(), images[0].shape
        found = known.get(shape) or forward(network, images)
        if replay:
            known[shape] = found
        seconds.append(time.perf_counter() - start)
        return found

    CellMaskRCNN.forward = timed
    return seconds


def predict(mosaic: Path, folder: Path, name: str, *, replay: bool) -> dict[str, Any]:
    """The command's work in this process."""
    seconds, start = watch_network(replay=replay), time.perf_counter()
    settings = PredictSettings(model=name, formats=FORMATS, device="cpu")
    [row] = run_batch([(mosaic.stem, mosaic)], folder, settings)
    total = time.perf_counter() - start
    if row["status"] != "ok":
        raise SystemExit(f"{mosaic}: {row['error']}")
    return {
        "cells": row["n_cells"],
        "notes": row["notes"],
        "passes": len(seconds),
        "seconds": round(total, 1),
        "seconds_outside_network": round(total - sum(seconds), 1),
        "output_mb": round(sum(file.stat().st_size for file in folder.glob("mosaic*")) / 1e6, 1),
    }


def predict_stock(mosaic: Path, name: str) -> dict[str, Any]:
    """Torchvision on the same tiles; of each the cells whose box has its centre in the core, pasted into the image."""
    model, start = everycell.load_model(name, device="cpu"), time.perf_counter()
    pasted: list[Tensor] = []
    with open_source(mosaic) as source, torch.inference_mode():
        height, width = source.size
        limits = contrast_range(source.overview())
        for tile in model.tiled(source).rules.tiling.tiles:
            x0, y0, x1, y1 = tile.window
            pixels = torch.from_numpy(stretch(source.read(tile.window), limits)).permute(2, 0, 1)
            [found] = stock_network(name, (y1 - y0, x1 - x0))([pixels])
            centres = (found["boxes"][:, :2] + found["boxes"][:, 2:]).numpy() / 2 + (x0, y0)
            owned = torch.from_numpy(np.array([tile.owns(x, y) for x, y in centres], np.bool_))
            masks = torch.zeros((int(owned.sum()), height, width), dtype=torch.bool)
            masks[:, y0:y1, x0:x1] = found["masks"][owned, 0] > 0.5
            pasted.append(masks)
    return {"cells": sum(map(len, pasted)), "seconds": round(time.perf_counter() - start, 1)}


def peak_pss_mb(command: list[str]) -> tuple[int, str]:
    """Run a command; the largest PSS of it and its children together, and what it printed."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            total = 0
            try:
                parent = psutil.Process(process.pid)
                for member in (parent, *parent.children(recursive=True)):
                    total += member.memory_full_info().pss
            except psutil.Error:
                pass
            peak = max(peak, total)
            time.sleep(0.5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"failed with exit code {process.returncode}")
    return round(peak / 2**20), output


def measure(mosaic: Path, edge: int, model: str, way: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--predict", str(mosaic), "--way", way, "--model", model]
        peak, output = peak_pss_mb([*command, "--work", folder])
    figures = json.loads(output.splitlines()[-1])
    return {
        "edge": edge,
        "way": way,
        "megapixels_per_minute": round(edge**2 / 1e6 / figures["seconds"] * 60, 2),
        "peak_pss_mb": peak,
        **figures,
        "load_average": round(os.getloadavg()[1], 1),
        "date": time.strftime("%Y-%m-%d"),
    }


def child(options: argparse.Namespace) -> dict[str, Any]:
    """One figure, in the process that is watched."""
    if options.way == "torchvision":
        figures = predict_stock(options.predict, options.model)
    else:
        figures = predict(options.predict, options.work, options.model, replay=options.way == "replay")
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**figures, "cpu_seconds": round(time.process_time(), 1), "peak_rss_mb": round(peak_rss / 1024)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--edges", type=int, nargs="*", default=[2000, 5000, 10000])
    parser.add_argument("--replay", type=int, nargs="*", default=[5000, 20000])
    parser.add_argument("--peer", type=int, nargs="*", default=[1000], help="edges for torchvision and for us")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--predict", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", default="everycell", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.predict:
        print(json.dumps(child(options)))
        return
    record: dict[str, Any] = {
        "model": options.model,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "runs": [],
    }
    if options.out is not None and options.out.exists():
        record["runs"] = json.loads(options.out.read_text(encoding="utf-8"))["runs"]
    wanted = [(edge, "torchvision") for edge in options.peer] + [(edge, "replay") for edge in options.replay]
    wanted += [(edge, "everycell") for edge in {*options.edges, *options.peer}]
    images = crowded_images(options.data, CELLS_PER_MEGAPIXEL, HEIGHT_PX)
    with tempfile.TemporaryDirectory() as folder:
        for edge, way in sorted(wanted):
            if any((run["edge"], run["way"]) == (edge, way) for run in record["runs"]):
                continue
            mosaic = Path(folder) / "mosaic.tif"
            true_cells = round(write_mosaic(mosaic, images, edge))
            run = measure(mosaic, edge, options.model, way)
            record["runs"] = sorted([*record["runs"], run | {"true_cells": true_cells}], key=lambda r: r["edge"])
            print(json.dumps(run), file=sys.stderr, flush=True)
            if options.out is not None:
                write_bytes(options.out, (json.dumps(record, indent=1) + "\n").encode())
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
