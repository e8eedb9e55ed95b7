"""Quality of the `nuclei` model on the validation images it never saw.

    python benchmarks/nuclei_quality.py --data DIR [--model nuclei] [--out benchmarks/nuclei_quality.json]

DIR holds `dsb2018/` and `tnbc/`, each with `images/` and `labels/`. The split is the one `everycell train` made: 90/10
by image, seed 0, near duplicates on one side. Rates are pooled over images, at a mask IoU strictly above the threshold,
after overlaps went to the higher score. With `--stardist FOLDER`, the `data/images` folder of the `stardist` package,
its fluorescence image is measured too.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch

import everycell
from everycell.datasets import JoinedDataset, near_duplicate_groups, open_dataset, split, thumbnail
from everycell.evaluate import Evaluator
from everycell.formats import read_label_image
from everycell.predict import Model
from everycell.structures import Sample

_COLOURFUL = 3.0  # mean difference of the largest and the smallest channel, grey levels
_IOUS = ("0.50", "0.70", "0.75", "0.80", "0.90")


def validation_samples(data: Path) -> list[Sample]:
    """The validation images of the shipped model's training run."""
    dataset = JoinedDataset([open_dataset(data / name) for name in ("dsb2018", "tnbc")])
    groups = near_duplicate_groups([thumbnail(dataset.load(i).image) for i in range(len(dataset))])
    _, validation = split(len(dataset), fraction=0.1, seed=0, groups=groups)
    return [dataset.load(i) for i in validation]


def modality(sample: Sample) -> str:
    """`colour` (H&E and the like), `fluorescence` (bright on dark) or `other gray`."""
    pixels = sample.image.pixels.astype(int)
    if (pixels.max(-1) - pixels.min(-1)).mean() > _COLOURFUL:
        return "colour"
    return "fluorescence" if pixels.mean() < 100 else "other gray"


def summary(evaluator: Evaluator) -> dict[str, Any]:
    """F1 and the Data Science Bowl's AP at several thresholds, and the class-blind means."""
    result = evaluator.result()
    rates = {f"{row.iou:.2f}": row for row in result.thresholds}
    return {
        "n_images": result.n_images,
        "n_truth": result.n_truth,
        "n_pred": result.n_pred,
        "f1": {iou: round(rates[iou].pooled.f1, 4) for iou in _IOUS},
        "dsb_ap_pooled": {iou: round(rates[iou].pooled.dsb_ap, 4) for iou in _IOUS},
        "dsb_ap_image_mean": {iou: round(rates[iou].image_mean.dsb_ap, 4) for iou in _IOUS},
        "pq": round(result.pq, 4),
        "aji": round(result.aji, 4),
        "dice": round(result.dice, 4),
    }


def measure_parts(model: Model, samples: list[Sample], score_thresh: float | None = None) -> dict[str, dict[str, Any]]:
    """`summary` of all samples, and of each modality."""
    parts: dict[str, Evaluator] = {}
    for sample in samples:
        cells = model.predict(sample.image, score_thresh=score_thresh)
        for part in ("all", modality(sample)):
            parts.setdefault(part, Evaluator(model.class_names)).add(sample.name, sample.to_instances(), cells)
    return {name: summary(evaluator) for name, evaluator in sorted(parts.items())}


def measure_stardist(model: Model, folder: Path, score_thresh: float | None) -> dict[str, Any]:
    """`summary` of the image that comes with the `stardist` package."""
    image, truth = everycell.read_image(folder / "img2d.tif"), read_label_image(folder / "mask2d.tif")
    evaluator = Evaluator(model.class_names)
    evaluator.add("img2d", truth, model.predict(image, score_thresh=score_thresh))
    return summary(evaluator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--score-thresh", type=float, default=None)
    parser.add_argument("--stardist", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    samples = validation_samples(options.data)
    model = everycell.load_model(options.model)
    start = time.perf_counter()
    parts = measure_parts(model, samples, options.score_thresh)
    seconds = time.perf_counter() - start
    megapixels = sum(sample.image.size[0] * sample.image.size[1] for sample in samples) / 1e6
    record = {
        "model": model.name,
        "sha256": model.sha256,
        "score_thresh": model.card.score_thresh if options.score_thresh is None else options.score_thresh,
        "machine": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, bf16 {model.bf16}",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "megapixels": round(megapixels, 2),
        "seconds_predict_and_evaluate": round(seconds, 1),
        "parts": parts,
    }
    if options.stardist is not None:
        record["stardist_img2d"] = measure_stardist(model, options.stardist, options.score_thresh)
    print(json.dumps(record, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
