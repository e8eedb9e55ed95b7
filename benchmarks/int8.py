"""A model in 8-bit integers beside its own float32 form: cells, AP50 and time, by OpenVINO.

    python benchmarks/int8.py --data DIR [--model nuclei] [--calibration 40] [--images 10] [--out benchmarks/int8.json]

DIR holds `tnbc`, `dsb2018` and `consep4/train`. The model is exported to OpenVINO in float32, and in 8-bit integers
with ranges from images of `tnbc` and `dsb2018`. What each then finds in other images of `tnbc` and in `consep4/train`,
cut to at most 512×512 px at network scale, is set beside the truth, all as one class, and beside the cells of the
float32 form: found with mask IoU above 0.95 and 0.5. Seconds are those of the network alone, in turns in one process,
medians of the rounds, added up over the images.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import everycell
from agreement import class_blind
from everycell.datasets import open_dataset
from everycell.evaluate import Evaluator
from everycell.files import write_bytes
from everycell.metrics import match, overlap
from everycell.models.checkpoint import find_model, load_network
from everycell.models.exported import export_network
from everycell.predict import Model
from everycell.structures import Sample
from everycell.train.validation import AP_SCORE_THRESH
from export_speed import cut
from timing import in_turns, machine, seconds

IOUS = (0.95, 0.5)


def spread(folder: Path, n: int, first: int = 0) -> list[Sample]:
    """`n` samples, evenly spread, of every second one from `first` on."""
    dataset = open_dataset(folder)
    places = np.arange(first, len(dataset), 2)
    return [dataset.load(int(i)) for i in places[np.linspace(0, len(places) - 1, n).astype(int)]]


def part(sample: Sample, model: Model) -> Sample:
    """What `cut` leaves of a sample."""
    image = cut(sample.image, model)
    y, x = ((old - new) // 2 for old, new in zip(sample.image.size, image.size, strict=True))
    height, width = image.size
    return replace(sample, image=image, layers=sample.layers[:, y : y + height, x : x + width])


def measure(models: dict[str, Model], samples: list[Sample], rounds: int) -> dict[str, Any]:
    """Quality and time of all ways on the samples of one data set."""
    first, *_ = models.values()
    thresh = first.card.score_thresh
    evaluators = {way: Evaluator(("cell",), score_thresh=thresh) for way in models}
    times: dict[str, list[float]] = {way: [] for way in models}
    same = {way: dict.fromkeys(IOUS, 0) for way in models}
    n_cells = 0
    for sample in (part(sample, first) for sample in samples):
        truth = class_blind(sample.to_instances())
        found = {way: model.predict(sample.image, score_thresh=AP_SCORE_THRESH) for way, model in models.items()}
        sure = {way: cells.select(cells.scores >= thresh) for way, cells in found.items()}
        reference = next(iter(sure.values()))
        n_cells += len(reference)
        for way, cells in found.items():
            evaluators[way].add(sample.name, truth, class_blind(cells))
            iou = overlap(reference.masks, sure[way].masks).iou()
            for at in IOUS:
                same[way][at] += match(iou, at).counts.tp
        scaled = first.network_input(sample.image)
        looks = {way: partial(model.look, scaled, thresh) for way, model in models.items()}
        for way, taken in in_turns({way: partial(seconds, look) for way, look in looks.items()}, rounds).items():
            times[way].append(statistics.median(wall for _, wall in taken))
    row: dict[str, Any] = {"images": len(samples), "cells": n_cells}
    for way in models:
        result = evaluators[way].result()
        row[way] = {
            "seconds": round(sum(times[way]), 3),
            "ap50": round(result.ap50, 4),
            "map": round(result.map, 4),
            "f1_50": round(result.intervals["f1_50"].value, 4),
            "found": {f"IoU > {at}": n for at, n in same[way].items()},
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--calibration", type=int, default=40, help="images that ranges are taken from")
    parser.add_argument("--images", type=int, default=10, help="of each data set, to measure on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    network, card = load_network(find_model(options.model))
    torchs = everycell.load_model(options.model, device="cpu", bf16=False)
    with tempfile.TemporaryDirectory() as folder:
        whole, small = (Path(folder) / f"{name}.xml" for name in ("float32", "int8"))
        export_network(network, card, whole, "openvino")
        shown = [s for name in ("tnbc", "dsb2018") for s in spread(options.data / name, options.calibration // 2)]
        inputs = [torchs.network_input(cut(sample.image, torchs)) for sample in shown]
        export_network(network, card, small, "openvino", inputs)
        models: dict[str, Model] = {
            "OpenVINO, float32": everycell.load_model(whole),
            "OpenVINO, int8": everycell.load_model(small),
            "everycell, float32": torchs,
        }
        sets = {name: spread(options.data / name, options.images, first=1) for name in ("tnbc", "consep4/train")}
        rows = {}
        for name, samples in sets.items():
            rows[name] = measure(models, samples, options.rounds)
            print(name, json.dumps(rows[name], indent=1), flush=True)
    record = {"model": options.model, **machine("openvino", "nncf"), "rounds": options.rounds, "sets": rows}
    write_bytes(options.out, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
