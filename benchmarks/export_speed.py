"""Time and agreement of exported models beside everycell's own forward pass, in turns, in one process.

    python benchmarks/export_speed.py --data DIR [--out benchmarks/export_speed.json]

DIR holds `tnbc` and `dsb2018` in a layout that `everycell train` takes. Images are cut to 512×512 px at network scale.
Another one is generated and crowded. CPU seconds count all threads, so that other work on the machine changes them less
than it changes wall seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

import everycell
from everycell.datasets import open_dataset, synthetic_sample
from everycell.metrics import match, overlap
from everycell.models.checkpoint import find_model, load_network
from everycell.models.exported import export_network
from everycell.predict import Model
from everycell.structures import Image, Instances
from timing import in_turns, machine, seconds

ROUNDS = 5
SIDE_PX = 512
FORMATS = {"torchscript": ".torchscript", "onnx": ".onnx", "openvino": ".xml"}


def ways(name: str, folder: Path) -> dict[str, Model]:
    """The model as it is, in float32 and bfloat16, and exported."""
    network, card = load_network(find_model(name))
    found = {"everycell float32": everycell.load_model(name, device="cpu", bf16=False)}
    found["everycell bfloat16"] = everycell.load_model(name, device="cpu")
    for to, suffix in FORMATS.items():
        path = folder / f"model{suffix}"
        export_network(network, card, path, to)  # type: ignore[arg-type]
        found[f"{to} float32"] = everycell.load_model(path)
    return found


def cut(image: Image, model: Model) -> Image:
    """The middle of an image, as large as `SIDE_PX` at network scale where the image is large enough."""
    side = round(SIDE_PX / model.zoom(image, None)[0])
    y, x = (max(0, (length - side) // 2) for length in image.size)
    return Image(np.ascontiguousarray(image.pixels[y : y + side, x : x + side]), image.mpp)


def agreement(ours: Instances, theirs: Instances) -> dict[str, float]:
    """Cells that both find with mask IoU above 0.95, and above 0.5."""
    iou = overlap(ours.masks, theirs.masks).iou()
    return {f"iou_{thresh}": match(iou, thresh).counts.tp for thresh in (0.95, 0.5)} | {"n": len(theirs)}


def measure(models: dict[str, Model], name: str, image: Image) -> dict[str, object]:
    """Times and agreement on one image."""
    reference = models["everycell float32"]
    scaled, thresh = reference.network_input(image), reference.card.score_thresh
    looks = {way: partial(model.look, scaled, thresh) for way, model in models.items()}
    times = in_turns({way: partial(seconds, look) for way, look in looks.items()}, ROUNDS)
    truth = reference.predict(image)
    row: dict[str, object] = {"image": name, "network_px": list(scaled.shape[1:]), "n_cells": len(truth)}
    for way, model in models.items():
        cpu, wall = (statistics.median(column) for column in zip(*times[way], strict=True))
        row[way] = {
            "cpu_seconds": round(cpu, 3),
            "wall_seconds": round(wall, 3),
            **agreement(truth, model.predict(image)),
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--images", type=int, default=2, help="of each data set")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        models = ways(options.model, Path(folder))
        for data in ("tnbc", "dsb2018"):
            samples = open_dataset(options.data / data)
            for i in np.linspace(0, len(samples) - 1, options.images).astype(int).tolist():
                sample = samples.load(i)
                image = cut(sample.image, models["everycell float32"])
                rows.append(measure(models, f"{data}/{sample.name}", image))
                print(json.dumps(rows[-1]))
        crowd = synthetic_sample(np.random.default_rng(0), (SIDE_PX, SIDE_PX), 400, diameter_px=18.0).image
        rows.append(measure(models, "generated", cut(crowd, models["everycell float32"])))
    record = {
        "model": options.model,
        **machine("onnxruntime", "openvino"),
        "rounds": ROUNDS,
        "images": rows,
        "sum_cpu_seconds": {way: round(sum(row[way]["cpu_seconds"] for row in rows), 2) for way in models},  # type: ignore[index]
    }
    print(json.dumps(record["sum_cpu_seconds"], indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
