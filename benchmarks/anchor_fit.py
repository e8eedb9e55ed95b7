"""How well the anchors of `baseline` and `reference` fit real cells, and what becomes of the cells in `nuclei`.

    python benchmarks/anchor_fit.py --data DIR [--out benchmarks/anchor_fit.json] [--plot docs/images/anchors.png]

DIR holds `consep4/train/`, `dsb2018/` and `tnbc/`. Each is measured whole, at the scale of the two presets (short side
512 px) and at the images' own scale. The model is followed on the validation images that it never saw, those of
`nuclei_quality.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import everycell
from everycell.config import ModelSettings
from everycell.datasets import open_dataset
from everycell.evaluate.anchors import fit_anchors, recall_by_size
from everycell.models.anchors import TrueBoxes
from everycell.plot import save_png
from everycell.plot.anchors import plot_coverage
from everycell.predict.proposals import trace_cells
from everycell.structures import Sample
from everycell.train import PRESETS
from nuclei_quality import validation_samples

_DATA = ("consep4/train", "dsb2018", "tnbc")
_SCALES = {"short side 512 px": {}, "own scale": {"resize_short_px": None, "magnification": 1.0}}


def presets_at(changes: dict[str, Any]) -> dict[str, ModelSettings]:
    """The two systems of the report at another scale."""
    return {name: PRESETS[name].model.model_copy(update=changes) for name in ("baseline", "reference")}


def fit(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, NDArray[np.float64]]]]:
    """Figures of one data set, and the best IoU of each cell: scale → anchors → float64 [N]."""
    dataset = open_dataset(folder)
    truths = [TrueBoxes.of(dataset.load(i)) for i in range(len(dataset))]
    sides = np.concatenate([truth.sides() for truth in truths])
    figures: dict[str, Any] = {
        "n_images": len(truths),
        "n_cells": len(sides),
        "side_px_percentiles": {str(q): round(float(np.percentile(sides, q)), 1) for q in (1, 10, 50, 90, 99)},
    }
    ious = {}
    for scale, changes in _SCALES.items():
        fits = fit_anchors(truths, presets_at(changes))
        figures[scale] = [found.as_json() for found in fits]
        ious[scale] = {", ".join(found.names): found.ious for found in fits}
        print(folder, scale, *(f"{found.names} {found.overall}" for found in fits), sep="\n ", flush=True)
    return figures, ious


def recall(samples: list[Sample], name: str) -> dict[str, Any]:
    """Cells that the steps of the model `name` cover, by size."""
    model = everycell.load_model(name)
    truths = [TrueBoxes.of(sample) for sample in samples]
    covered = [trace_cells(model, s.image, t.boxes) for s, t in zip(samples, truths, strict=True)]
    sides = np.concatenate([truth.sides() for truth in truths])
    found = recall_by_size(sides, np.concatenate(covered, axis=1))
    return {
        "model": model.name,
        "sha256": model.sha256,
        "n_images": len(samples),
        "bf16": model.bf16,
        "recall": {label: asdict(row) for label, row in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--plot", type=Path, default=None)
    options = parser.parse_args()
    parts = {name: fit(options.data / name) for name in _DATA}
    record = {
        "machine": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "parts": {name: figures for name, (figures, _) in parts.items()},
        "proposals": recall(validation_samples(options.data), options.model),
    }
    print(json.dumps(record["proposals"], indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    if options.plot is not None:
        save_png(plot_coverage({f"CoNSeP, {scale}": sets for scale, sets in parts[_DATA[0]][1].items()}), options.plot)


if __name__ == "__main__":
    main()
