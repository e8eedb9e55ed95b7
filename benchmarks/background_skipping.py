"""How many true cells `--skip-background` would lose, and how much it leaves out.

    python benchmarks/background_skipping.py --data DIR... [--out benchmarks/background_skipping.json]

Each image of the data sets is cut as the model cuts it, and again into windows of 256 and 128 px, which are far more
often empty. A true cell is lost when the tile that owns its centroid is taken for background. No network runs.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import everycell
from everycell.datasets import open_dataset
from everycell.files import write_bytes
from everycell.io import open_source
from everycell.predict import Model
from everycell.predict.background import BACKGROUND_SHARE, is_background
from everycell.predict.stitch import centroids
from everycell.predict.tiling import Tiling
from everycell.structures import Sample
from everycell.transforms import contrast_range

CUTS = {"as the model cuts": None, "256 px windows": (256, 32), "128 px windows": (128, 16)}


def count(model: Model, sample: Sample) -> dict[str, Counter[str]]:
    """For each cut: tiles, true cells, and those of both that are left out; and pixels of tiles' cores."""
    counts = {}
    source = open_source(sample.image)
    factor, _ = model.zoom(source, None)
    low, high = contrast_range(source.overview())
    points = centroids(sample.to_instances().masks)
    for name, cut in CUTS.items():
        tiling = model.tiling(source.size, factor) if cut is None else Tiling(source.size, *cut)
        levels = BACKGROUND_SHARE * (high - low)
        skipped = np.array([is_background(source, tile.window, levels) for tile in tiling.tiles])
        n_px = np.array([np.prod(np.subtract(tile.core[2:], tile.core[:2])) for tile in tiling.tiles])
        lost = skipped[tiling.owners(points)]
        counts[name] = Counter(
            images=1,
            images_with_losses=int(lost.any()),
            tiles=len(skipped),
            tiles_skipped=int(skipped.sum()),
            px=int(n_px.sum()),
            px_skipped=int(n_px[skipped].sum()),
            cells=len(lost),
            cells_lost=int(lost.sum()),
        )
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = everycell.load_model(options.model, device="cpu")
    record: dict[str, Any] = {
        "background_share": BACKGROUND_SHARE,
        "date": datetime.now(UTC).date().isoformat(),
        "data": {},
    }
    for folder in options.data:
        totals = {name: Counter[str]() for name in CUTS}
        dataset = open_dataset(folder)
        for i in range(len(dataset)):
            sample = dataset.load(i)
            for name, counts in count(model, sample).items():
                totals[name].update(counts)
        name = folder.parent.name if folder.name == "train" else folder.name
        record["data"][name] = {
            cut: {**counts, "skipped_share": round(counts["px_skipped"] / counts["px"], 4)}
            for cut, counts in totals.items()
        }
    text = json.dumps(record, indent=1)
    print(text)
    if options.out is not None:
        write_bytes(options.out, f"{text}\n".encode())


if __name__ == "__main__":
    main()
