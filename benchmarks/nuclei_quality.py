"""Quality of the `nuclei` model on the validation images it never saw.

    python benchmarks/nuclei_quality.py --data DIR [--model nuclei] [--out benchmarks/nuclei_quality.json]

DIR holds `dsb2018/` and `tnbc/`, each with `images/` and `labels/`. The split is the one `everycell train` made: 90/10
by image, seed 0, near duplicates on one side. Rates are pooled over images, at a mask IoU strictly above the threshold,
after overlaps went to the higher score. With the `stardist` package installed, its packaged fluorescence image
(183 nuclei) is measured too.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from importlib.util import find_spec
from pathlib import Path

import torch

import everycell
from everycell.datasets import JoinedDataset, near_duplicate_groups, open_dataset, split, thumbnail
from everycell.evaluate import Evaluator
from everycell.formats import read_label_image
from everycell.structures import Sample

_COLOURFUL = 3.0  # mean difference of the largest and the smallest channel, grey levels


def modality(sample: Sample) -> str:
    """`colour` (H&E and the like), `fluorescence` (bright on dark) or `other gray`."""
    pixels = sample.image.pixels.astype(int)
    if (pixels.max(-1) - pixels.min(-1)).mean() > _COLOURFUL:
        return "colour"
    return "fluorescence" if pixels.mean() < 100 else "other gray"


def summary(evaluator: Evaluator, model: everycell.predict.Model) -> dict[str, object]:
    """F1 and the Data Science Bowl's AP at four thresholds, and the class-blind means."""
    result = evaluator.result()
    rates = {f"{row.iou:.2f}": row for row in result.thresholds}
    chosen = ("0.50", "0.70", "0.75", "0.90")
    return {
        "n_images": result.n_images,
        "n_truth": result.n_truth,
        "n_pred": result.n_pred,
        "f1": {iou: round(rates[iou].pooled.f1, 4) for iou in chosen},
        "dsb_ap_pooled": {iou: round(rates[iou].pooled.dsb_ap, 4) for iou in chosen},
        "dsb_ap_image_mean": {iou: round(rates[iou].image_mean.dsb_ap, 4) for iou in chosen},
        "pq": round(result.pq, 4),
        "aji": round(result.aji, 4),
        "dice": round(result.dice, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--score-thresh", type=float, default=None)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    dataset = JoinedDataset([open_dataset(options.data / name) for name in ("dsb2018", "tnbc")])
    groups = near_duplicate_groups([thumbnail(dataset.load(i).image) for i in range(len(dataset))])
    _, validation = split(len(dataset), fraction=0.1, seed=0, groups=groups)
    model = everycell.load_model(options.model)
    parts: dict[str, Evaluator] = {}
    start = time.perf_counter()
    pixels = 0
    for i in validation:
        sample = dataset.load(i)
        cells = model.predict(sample.image, score_thresh=options.score_thresh)
        pixels += sample.image.size[0] * sample.image.size[1]
        for part in ("all", modality(sample)):
            parts.setdefault(part, Evaluator(model.class_names)).add(sample.name, sample.to_instances(), cells)
    seconds = time.perf_counter() - start
    record = {
        "model": model.name,
        "sha256": model.sha256,
        "score_thresh": model.card.score_thresh if options.score_thresh is None else options.score_thresh,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "seconds": round(seconds, 1),
        "megapixels_per_minute": round(pixels / 1e6 / seconds * 60, 1),
        "parts": {name: summary(evaluator, model) for name, evaluator in sorted(parts.items())},
    }
    spec = find_spec("stardist")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "data" / "images"
        image, truth = everycell.read_image(folder / "img2d.tif"), read_label_image(folder / "mask2d.tif")
        evaluator = Evaluator(model.class_names)
        evaluator.add("img2d", truth, model.predict(image, score_thresh=options.score_thresh))
        record["stardist_img2d"] = summary(evaluator, model)
    print(json.dumps(record, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
