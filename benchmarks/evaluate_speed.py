"""Speed and memory of the evaluation of crowded images, beside average precision by faster-coco-eval.

    python benchmarks/evaluate_speed.py [--data DIR] [--out benchmarks/evaluate_speed.json]

200 generated images of 1000×1000 px with 1000 cells of 4 classes, and predictions that go wrong in every way (see
`crowded_images.py`); they are drawn into DIR if they are not there. Each part has a process of its own, one thread for
each process, and starts from the same crops:

- ap: average precision by class with faster-coco-eval on all images, and how long its run-length codes (made with
  `everycell`) and its evaluation took.
- agreement: the same on 10 images, also with pycocotools and with `everycell`.
- measures: PQ, PQ counts by class, AJI, AJI+, Dice, F1 at ten thresholds, boundary F1 and Hausdorff distance, what
  became of each cell and its surroundings, image by image from `everycell.metrics`.
- evaluator: all that `everycell evaluate` finds in the images, with 1 and with 2 processes: the measures, F_d, matches
  for average precision by class and blind to classes, for calibration and for thresholds. Starting the processes and
  reading the images count; the figures over all images and their bootstrap intervals are timed apart.

Seconds are wall time and processor time; on a machine that does other things as well, compare the latter. Memory is the
proportional set size of all processes of a part, less that of one after the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import faster_coco_eval
import numpy as np
import psutil
import pycocotools.coco
import pycocotools.cocoeval

from crowded_images import crowded_pair, load_pair, save_pair
from everycell import metrics
from everycell.evaluate import EvaluationSettings, compare_all
from everycell.evaluate.intervals import find_intervals
from everycell.evaluate.sources import Pair
from everycell.evaluate.sum_up import sum_up
from everycell.files import write_bytes
from everycell.structures import Instances
from everycell.structures.rle import encode
from everycell.structures.runs import row_runs

N_IMAGES, SIZE, N_CELLS, N_CLASSES = 200, (1000, 1000), 1000, 4
N_STOCK = 10  # images for pycocotools, which takes seconds for each


@dataclass(frozen=True)
class Seconds:
    """Wall time and processor time of this process and of those it started that have ended."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Seconds:
        """Since some start."""
        return cls(time.perf_counter(), sum(os.times()[:4]))

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def report(self) -> dict[str, float]:
        """Rounded, for JSON."""
        return {"wall": round(self.wall, 2), "cpu": round(self.cpu, 2)}


def draw(path: Path, seed: int) -> None:
    """Generate one image, unless it is there."""
    if not path.exists():
        save_pair(path, *crowded_pair(seed, SIZE, N_CELLS, N_CLASSES))


def annotations(images: Sequence[Instances]) -> list[dict[str, Any]]:
    """Cells as COCO annotations, ids from 1; image ids from 1 in order."""
    found = []
    for image_id, cells in enumerate(images, 1):
        codes = encode(cells.masks, cells.image_size)
        columns = (codes, cells.masks.areas().tolist(), cells.scores.tolist(), cells.class_ids.tolist())
        for counts, area, score, class_id in zip(*columns, strict=True):
            cell = {"id": len(found) + 1, "image_id": image_id, "category_id": class_id, "score": score, "iscrowd": 0}
            found.append({**cell, "area": area, "segmentation": {"size": list(SIZE), "counts": counts}})
    return found


def coco_ap(
    library: str, truths: Sequence[Instances], preds: Sequence[Instances]
) -> tuple[np.ndarray, Seconds, Seconds]:
    """Precision [IoU, recall, class, area, maxDets] by one of the two libraries; time for codes and for the rest."""
    clock = [Seconds.now()]
    sides = [annotations(images) for images in (truths, preds)]
    clock.append(Seconds.now())
    max_dets = 1 + max(map(len, [*truths, *preds]))
    header = {
        "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in range(1, len(truths) + 1)],
        "categories": [{"id": k} for k in range(1, N_CLASSES + 1)],
    }
    cocos = []
    for cells in sides:
        coco = (
            faster_coco_eval.COCO(print_function=silent) if library == "faster-coco-eval" else pycocotools.coco.COCO()
        )
        coco.dataset = {**header, "annotations": cells}
        coco.createIndex()
        cocos.append(coco)
    if library == "faster-coco-eval":
        options = {"print_function": silent, "rle_iou_max_workers": 1}
        evaluation = faster_coco_eval.COCOeval_faster(*cocos, iouType="segm", **options)
    else:
        evaluation = pycocotools.cocoeval.COCOeval(*cocos, iouType="segm")
    evaluation.params.maxDets = [max_dets]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, float("inf")]], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    clock.append(Seconds.now())
    return evaluation.eval["precision"], clock[1] - clock[0], clock[2] - clock[1]


def silent(*_: object) -> None:
    """In place of the library's progress messages."""


def measure_image(truth: Instances, pred: Instances) -> None:
    """The measures of one image."""
    runs = row_runs(truth.masks), row_runs(pred.masks)
    both = metrics.overlaps(truth, pred, runs)
    iou = both.flat.iou()
    metrics.panoptic_quality(both.flat)
    metrics.class_counts(both.flat, truth.class_ids[both.flat_truth], pred.class_ids[both.flat_pred], N_CLASSES)
    metrics.aggregated_jaccard_index(both.flat)
    metrics.aggregated_jaccard_index_plus(both.flat)
    metrics.dice(both.flat)
    for threshold in metrics.IOU_THRESHOLDS:
        metrics.match(iou, threshold)
    errors = metrics.analyse_errors(truth, pred, both.raw)
    for cells, of_cells in zip((truth, pred), runs, strict=True):
        metrics.surroundings(cells, of_cells)
    found = np.flatnonzero(errors.truth.matched)
    pairs = metrics.Matches(found, errors.truth.partner[found], errors.truth.iou[found], metrics.Counts(tp=len(found)))
    metrics.boundary_agreement(truth, pred, pairs)


@dataclass(frozen=True)
class Stored:
    """Stands in for an `everycell.evaluate.Comparison`, whose files would take longer to decode than to compare."""

    folder: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, name: str) -> Pair:
        """One image by the name of its file."""
        return Pair(name, *load_pair(self.folder / name), Instances.empty(SIZE))


def part_ap(paths: Sequence[Path]) -> dict[str, Any]:
    truths, preds = zip(*map(load_pair, paths), strict=True)
    precision, codes, evaluation = coco_ap("faster-coco-eval", truths, preds)
    steps = {"codes": codes.report(), "evaluation": evaluation.report()}
    return {"seconds": (codes + evaluation).report(), "steps": steps, "map": float(precision.mean())}


def part_agreement(paths: Sequence[Path]) -> dict[str, Any]:
    truths, preds = zip(*map(load_pair, paths[:N_STOCK]), strict=True)
    fast, *fast_steps = coco_ap("faster-coco-eval", truths, preds)
    with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
        stock, *stock_steps = coco_ap("pycocotools", truths, preds)
    start = Seconds.now()
    ours = metrics.average_precision(truths, preds, N_CLASSES)
    our_time = Seconds.now() - start
    return {
        "images": len(truths),
        "seconds": {
            "pycocotools": (stock_steps[0] + stock_steps[1]).report(),
            "faster_coco_eval": (fast_steps[0] + fast_steps[1]).report(),
            "everycell": our_time.report(),
        },
        "largest_difference_of_precision": float(np.abs(fast - stock).max()),
        "map": {"pycocotools": float(stock.mean()), "faster_coco_eval": float(fast.mean()), "everycell": ours.map},
    }


def part_measures(paths: Sequence[Path]) -> dict[str, Any]:
    total = Seconds(0, 0)
    for path in paths:
        pair = load_pair(path)
        start = Seconds.now()
        measure_image(*pair)
        total += Seconds.now() - start
    return {"seconds": total.report()}


def part_evaluator(paths: Sequence[Path], workers: int) -> dict[str, Any]:
    settings = EvaluationSettings(tuple("ABCD"), keep_masks=False)
    clock = [Seconds.now()]
    stored = Stored(paths[0].parent, tuple(path.name for path in paths))
    images = list(compare_all(stored, settings, workers=workers))  # type: ignore[arg-type]
    clock.append(Seconds.now())
    find_intervals(images, N_CLASSES)
    clock.append(Seconds.now())
    result = sum_up(images, settings)
    clock.append(Seconds.now())
    compared, intervals, summed = (end - start for start, end in pairwise(clock))
    return {
        "seconds": compared.report(),
        "sum_up_seconds": (summed - intervals).report(),  # it finds the intervals once more
        "intervals_seconds": intervals.report(),
        "figures": {name: getattr(result, name) for name in ("map", "pq", "aji", "aji_plus", "dice", "f1_50")},
    }


PARTS: dict[str, Callable[[Sequence[Path]], dict[str, Any]]] = {
    "ap": part_ap,
    "agreement": part_agreement,
    "measures": part_measures,
    "evaluator, 1 process": lambda paths: part_evaluator(paths, 1),
    "evaluator, 2 processes": lambda paths: part_evaluator(paths, 2),
}


def pss(process: psutil.Process) -> int:
    """Bytes of a process and of all that it started."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):  # it may just have ended
            total += each.memory_full_info().pss
    return total


def run_part(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run one part in a process of its own and watch its memory."""
    command = [sys.executable, __file__, "--data", str(folder), "--images", str(options.images), "--part", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        while child.poll() is None:
            with suppress(psutil.Error):
                peak = max(peak, pss(psutil.Process(child.pid)))
            time.sleep(0.2)
        assert child.stdout is not None
        output = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"{name} failed")
    found: dict[str, Any] = json.loads(output)
    imported = found.pop("imported_bytes")
    return {**found, "memory_mb": round((peak - imported) / 1e6), "import_mb": round(imported / 1e6)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the images; a temporary one unless given")
    parser.add_argument("--images", type=int, default=N_IMAGES)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        imported = pss(psutil.Process())
        paths = [options.data / f"{i}.npz" for i in range(options.images)]
        print(json.dumps({**PARTS[options.part](paths), "imported_bytes": imported}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor() as pool:
            list(pool.map(draw, [folder / f"{i}.npz" for i in range(options.images)], range(options.images)))
        parts = {}
        for name in PARTS:
            parts[name] = run_part(name, options, folder)
            print(name, parts[name], flush=True)
    share = {
        clock: {
            name: round(parts[name]["seconds"][clock] / parts["ap"]["seconds"][clock], 2) for name in list(PARTS)[2:]
        }
        for clock in ("wall", "cpu")
    }
    report = {
        "measured": "seconds for all images, memory above the import; see benchmarks/evaluate_speed.py",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.platform()}, {os.cpu_count()} processors",
        "load_average": round(os.getloadavg()[0], 1),  # of the last minute, this benchmark included
        "versions": {
            name: version(name) for name in ("everycell", "faster-coco-eval", "pycocotools", "numpy", "scipy")
        },
        "images": options.images,
        "size": SIZE,
        "cells": N_CELLS,
        "classes": N_CLASSES,
        "share_of_ap": share,
        "parts": parts,
    }
    write_bytes(options.out, (json.dumps(report, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
