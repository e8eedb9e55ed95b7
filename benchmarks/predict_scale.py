"""Speed and memory of the tiled prediction on large mosaics, beside torchvision's own way on the same tiles.

    python benchmarks/predict_scale.py --data DIR [--edges 2000 5000 10000] [--peer] [--out FILE.json]

DIR is a data set with `images/` and `labels/`, for example dsb2018. Its images are laid side by side, row by row, until
they fill a square; the mosaic is a tiled TIFF that is read window by window. Each edge is predicted by a process of its
own, whose proportional set size (PSS, Linux) is summed over its process tree every 0.2 s. "Outside the network" is the
time in which no forward pass ran. The peer runs stock torchvision on the same tiles and pastes full-image masks, as its
own forward does; it needs N × H × W bytes, so it is asked for by --peer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import tifffile
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

import everycell
from everycell.datasets import open_dataset
from everycell.io import open_source
from everycell.predict import Model

TILE_PX = 256


def write_mosaic(data: Path, edge: int, path: Path) -> None:
    """Images of a data set in rows of the tallest one's height, over and over, cut at the edge."""
    dataset = open_dataset(data)
    pixels = np.memmap(path.with_suffix(".raw"), np.uint8, "w+", shape=(edge, edge, 3))
    y, i = 0, 0
    while y < edge:
        x, height = 0, 1
        while x < edge:
            image = dataset.load(i % len(dataset)).image.pixels[: edge - y, : edge - x]
            pixels[y : y + image.shape[0], x : x + image.shape[1]] = image
            x, height, i = x + image.shape[1], max(height, image.shape[0]), i + 1
        y += height
    tifffile.imwrite(path, pixels, tile=(TILE_PX, TILE_PX), compression="zlib", photometric="rgb", bigtiff=True)
    path.with_suffix(".raw").unlink()


def count_network_seconds(model: Model) -> list[float]:
    """Wrap the network so that the seconds of each pass are added to the list that is returned."""
    seconds: list[float] = []
    forward = model.network.forward

    def timed(*args: object) -> object:
        start = time.perf_counter()
        try:
            return forward(*args)
        finally:
            seconds.append(time.perf_counter() - start)

    model.network.forward = timed
    return seconds


def predict(mosaic: Path, name: str, folder: Path, *, peer: bool) -> dict[str, float]:
    """Predict in this process; figures of time and count."""
    model = everycell.load_model(name, device="cpu")
    seconds = count_network_seconds(model)
    start = time.perf_counter()
    with open_source(mosaic) as source:
        tiles = model.tiled(source, work=folder)
        if peer:
            n_cells = paste_everything(model, tiles)
        else:
            tiles.run()
            n_cells = sum(len(batch) for batch in tiles.batches())
    total = time.perf_counter() - start
    return {
        "cells": n_cells,
        "tiles": len(tiles.rules.tiling.tiles),
        "tiles_split": sum(tiles.report.split.values()),
        "seconds": round(total, 1),
        "outside_network": round(1 - sum(seconds) / total, 3),
    }


def paste_everything(model: Model, tiles: everycell.predict.engine.TiledPrediction) -> int:
    """Torchvision's way: the masks of each tile pasted into the full image, no joining of seams."""
    height, width = tiles.source.size
    pasted, detector = [], tiles.detector
    for tile in tiles.rules.tiling.tiles:
        shown = detector._network_pixels(tiles.source, tile)
        raw, _ = model.look(shown, detector.thresh)
        boxes = raw["boxes"] / detector.factor + torch.tensor([*tile.window[:2]] * 2)
        pasted.append(paste_masks_in_image(raw["masks"], boxes, (height, width))[:, 0] > 0.5)
    return sum(len(masks) for masks in pasted)


def peak_pss_mb(command: list[str]) -> tuple[float, str]:
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
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"failed with exit code {process.returncode}")
    return round(peak / 2**20), output


def measure(mosaic: Path, edge: int, model: str, *, peer: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--predict", str(mosaic), "--model", model, "--work", folder]
        peak, output = peak_pss_mb([*command, "--peer"] if peer else command)
    figures = json.loads(output.splitlines()[-1])
    megapixels_per_minute = round(edge**2 / 1e6 / figures["seconds"] * 60, 1)
    return {"edge": edge, "peer": peer, "mpx_per_minute": megapixels_per_minute, "peak_pss_mb": peak, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--edges", type=int, nargs="+", default=[2000, 5000, 10000])
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--peer", action="store_true", help="torchvision's pasting as well")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--predict", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.predict:
        print(json.dumps(predict(options.predict, options.model, options.work / "tiles", peer=options.peer)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for edge in options.edges:
            mosaic = Path(folder) / f"mosaic_{edge}.tif"
            write_mosaic(options.data, edge, mosaic)
            rows += [
                measure(mosaic, edge, options.model, peer=peer)
                for peer in ((False, True) if options.peer else (False,))
            ]
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    record = {
        "model": options.model,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "edges": rows,
    }
    print(json.dumps(record, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
