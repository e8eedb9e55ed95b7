"""Stock torchvision and everycell with the same weights on the same images, stage by stage, from file to RLE.

    python benchmarks/speed.py --data DIR [--models nuclei reference] [--weights FILE] [--rounds 5] [--images 2]
                               [--cells 100 300 1000 3000] [--mosaics 2048] [--agreement 8]
                               [--out benchmarks/speed.json]

DIR holds `tnbc` and `consep4/train`. Each side is a process of its own and takes its turn in every round; seconds are
medians, from the image file (TIFF) to a COCO results file, loading the model not included.

- torchvision: its `MaskRCNN` as it comes, float32, the whole image at once, its own pooling and full-image masks,
  N × H × W, that pycocotools encodes. Where these need over --memory-gb they are pasted in parts, and the row says so.
- everycell: as `everycell predict` does it, in tiles where the image is large. Stages of several tiles overlap.

`reference` is the network of the report's preset. Without --weights it is random: then torchvision's proposals and up
to 1000 boxes are replayed to everycell, after it has made its own, and the masks alone are compared.

Agreement, at score 0.05 and without everycell's rule on covered cells, which torchvision lacks: of torchvision's cells
of score 0.3 and more, the share that everycell finds with a mask IoU above 0.95 and 0.9. Torchvision pastes masks by
rounding boxes to whole pixels; "resampled" are its probabilities brought into the image as everycell does it.
AP50 takes all cells for one class. Where a model shrinks images, everycell smooths them first and torchvision does not:
then the networks see different pixels. Memory is the peak above that of the imports.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from agreement import Agreement
from everycell.files import write_bytes
from everycell.models import network_zoom
from everycell.models.checkpoint import ModelCard, file_sha256, find_model, read_card, save_model
from everycell.structures import Instances
from everycell.train import get_preset
from everycell.train.memory import PeakMemory
from everycell.train.validation import AP_SCORE_THRESH
from everycell.transforms import stretch, zoom_image
from ours import Everycell
from pictures import Picture, generated_picture, mosaic_picture, real_pictures
from replay import random_network
from roofline import peaks
from stock import Stock
from timing import in_turns, machine, seconds

SIDES = ("torchvision", "everycell")
STAGES = (
    *("read", "resize", "trunk", "proposals", "box RoIAlign", "box head", "NMS", "mask RoIAlign", "mask head"),
    *("masks", "stitching", "encoding", "writing", "other"),
)


# In the process of one side.

_here: dict[str, Any] = {}  # the side, and the memory that its imports took


def start_side(make: Callable[[], Stock | Everycell]) -> None:
    """Load the model in the process of one side."""
    _here["import_bytes"] = PeakMemory(torch.device("cpu")).read() or 0
    _here["side"] = make()


def run_once(picture: Path, size: tuple[int, int], out: Path) -> dict[str, Any]:
    """Seconds, memory and number of cells of one run."""
    side, peak, found = _here["side"], PeakMemory(torch.device("cpu")), []
    side.prepare(size)
    side.stages.take()
    peak.reset()
    cpu, wall = seconds(lambda: found.append(side.run(picture, out)))
    stages = side.stages.take()
    return {
        "seconds": wall,
        "cpu_seconds": cpu,
        "peak_mb": ((peak.read() or 0) - _here["import_bytes"]) / 2**20,
        "cells": len(found[0].scores),
        "parts": getattr(found[0], "parts", 1),
        "stages": stages | {"other": max(0.0, wall - sum(stages.values()))},
    }


def run_for_agreement(picture: Path, size: tuple[int, int], out: Path) -> tuple[Instances, Instances]:
    """Torchvision's cells pasted and resampled, or everycell's with its rule and without."""
    side = _here["side"]
    side.prepare(size)
    if isinstance(side, Everycell):
        return side.run(picture, out, AP_SCORE_THRESH), side.run_without_rule(picture, out, AP_SCORE_THRESH)
    found = side.run(picture, out, AP_SCORE_THRESH)
    return found.pasted(), found.resampled(aligned=side.card.settings.aligned)


def count_flops(picture: Path, out: Path) -> dict[str, int]:
    """FLOPs of everycell's parts."""
    found: dict[str, int] = _here["side"].flops(picture, out)
    return found


# In the process that sums up.


class Pair:
    """Both sides with one model, each in its process."""

    def __init__(self, stock: Callable[[], Stock], ours: Callable[[], Everycell], out: Path) -> None:
        self.out = out
        self.pools = {
            side: ProcessPoolExecutor(1, get_context("spawn"), start_side, (make,))
            for side, make in zip(SIDES, (stock, ours), strict=True)
        }

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self.pools.values():
            pool.shutdown()

    def call(self, side: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a function in a side's process."""
        return self.pools[side].submit(function, *arguments, self.out).result()

    def speed(self, picture: Picture, rounds: int, peak: float) -> dict[str, Any]:
        """A row of the record; `peak` is what the machine can do at most, GFLOP/s."""
        taken = in_turns(
            {side: partial(self.call, side, run_once, picture.path, picture.size) for side in SIDES}, rounds
        )
        stock, ours = (summary(taken[side]) for side in SIDES)
        flops = self.call("everycell", count_flops, picture.path)
        ours["gflop"] = {part: round(n / 1e9, 1) for part, n in flops.items()}
        ours["share_of_peak"] = {
            part: round(n / 1e9 / ours["stages"][part] / peak, 3) for part, n in flops.items() if n
        }
        ours["megapixels_per_minute"] = round(np.prod(picture.size) / 1e6 / ours["seconds"] * 60, 1)
        return {
            "image": picture.name,
            "size": list(picture.size),
            "n_truth": picture.n_truth,
            "pasted_in_parts": taken["torchvision"][-1]["parts"],
            "torchvision": stock,
            "everycell": ours,
            "ratio": round(stock["seconds"] / ours["seconds"], 2),
        }

    def agreement(self, pictures: list[Picture], *, trained: bool) -> dict[str, Any]:
        """How far both find the same cells, and, of trained weights, how near that is to the truth."""
        agreement = Agreement()
        for picture in pictures:
            cells = [self.call(side, run_for_agreement, picture.path, picture.size) for side in SIDES]
            agreement.add(picture.truth if trained else None, *cells[0], *cells[1])
        return agreement.result()


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One side of a row: medians of its runs."""
    return {
        **{key: round(statistics.median(run[key] for run in runs), 3) for key in ("seconds", "cpu_seconds")},
        "peak_mb": round(max(run["peak_mb"] for run in runs)),
        "cells": runs[-1]["cells"],
        "stages": {
            stage: round(statistics.median(run["stages"].get(stage, 0.0) for run in runs), 4) for stage in STAGES
        },
    }


def reference_file(folder: Path, picture: Picture) -> Path:
    """The preset's network with random weights."""
    settings, classes = get_preset("reference").model, ("a", "b", "c", "d")
    pixels = torch.from_numpy(stretch(tifffile.imread(picture.path))).permute(2, 0, 1)
    state = random_network(
        settings, len(classes), zoom_image(pixels, network_zoom(settings, picture.size))
    ).state_dict()
    card = ModelCard(name="reference, random weights", settings=settings, class_names=classes, score_thresh=0.0)
    save_model(folder / "reference.safetensors", state, card)
    return folder / "reference.safetensors"


def print_row(row: dict[str, Any]) -> None:
    stock, ours = (row[side] for side in SIDES)
    parts = f"; torchvision's masks in {row['pasted_in_parts']} parts" if row["pasted_in_parts"] > 1 else ""
    print(f"\n{row['image']}, {row['size'][0]} × {row['size'][1]} px, {row['n_truth']} true cells{parts}")
    print(f"{'':14} {'torchvision':>12} {'everycell':>10} {'ratio':>7}")
    lines = [(stage, stock["stages"][stage], ours["stages"][stage]) for stage in STAGES]
    lines += [(key, stock[key], ours[key]) for key in ("seconds", "cpu_seconds", "peak_mb", "cells")]
    for name, theirs, own in lines:
        form = "d" if isinstance(own, int) else ".3f"
        ratio = f"{theirs / own:.2f}" if own and theirs else ""
        share = ours["share_of_peak"].get(name)
        note = f"{share:.0%} of the peak" if share else ""
        if name == "seconds":
            note = f"{ours['megapixels_per_minute']} megapixels a minute"
        print(f"{name:14} {theirs:12{form}} {own:10{form}} {ratio:>7} {note}".rstrip())
    sys.stdout.flush()


def measure(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All rows and the agreement of one model."""
    pictures = [generated_picture(n, folder) for n in options.cells]
    real = real_pictures(options.data, options.images, folder)
    pictures = [*real["tnbc"], *real["consep4/train"], *pictures]
    pictures += [mosaic_picture(options.data, edge, folder) for edge in options.mosaics]
    is_random = name == "reference" and options.weights is None
    if is_random:
        model = reference_file(folder, pictures[0])
    else:
        model = options.weights if name == "reference" else find_model(name)
    card, peak = read_card(model), peaks()
    top = max(rate for what, rate in peak.items() if what.startswith("conv"))
    print(f"\n=== {name}; peak, GFLOP/s: {peak}")
    rows: list[dict[str, Any]] = []
    drawn = folder if is_random else None
    stock = partial(Stock, model, options.memory_gb, drawn)
    ours = partial(Everycell, model, drawn, bf16=not options.float32)
    with Pair(stock, ours, folder / "out.json") as pair:
        for picture in pictures:
            rows.append(pair.speed(picture, options.rounds, top))
            print_row(rows[-1])
        agreement = {
            data: pair.agreement(chosen, trained=not is_random)
            for data, chosen in real_pictures(options.data, options.agreement, folder).items()
        }
    print(json.dumps(agreement, indent=1))
    return {
        "model": card.name,
        "sha256": file_sha256(model),
        "random_weights": is_random,
        "float32": options.float32,
        "score_thresh": card.score_thresh,
        "peak_gflops": peak,
        "images": rows,
        "agreement": agreement,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["nuclei", "reference"])
    parser.add_argument("--weights", type=Path, help="model file of the reference network")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2, help="real images of each data set to time")
    parser.add_argument("--cells", type=int, nargs="*", default=[100, 300, 1000, 3000])
    parser.add_argument("--mosaics", type=int, nargs="*", default=[2048], help="sides of mosaics of consep4, px")
    parser.add_argument("--agreement", type=int, default=8, help="real images of each data set to compare")
    parser.add_argument("--memory-gb", type=float, default=15.0, help="for torchvision's full-image masks")
    parser.add_argument("--float32", action="store_true", help="everycell too; shares stay of the larger peak")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record = {**machine("pycocotools"), "rounds": options.rounds, "models": []}
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            record["models"].append(measure(name, options, Path(folder)))
        if options.out is not None:
            write_bytes(options.out, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
