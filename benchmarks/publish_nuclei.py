"""Turn a finished training run into the shipped model `nuclei`.

    python benchmarks/publish_nuclei.py RUN/last.safetensors --data DIR

Chooses the score threshold on all validation images of the run (best pooled F1 at IoU 0.5), measures there, and writes
the weights as float16 with their card, and their checksum, into the package.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import everycell
from everycell.models.checkpoint import ModelCard, load_network
from everycell.train.validation import validate
from nuclei_quality import measure_parts, validation_samples
from shipping import ship


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    samples = validation_samples(options.data)
    network, card = load_network(options.checkpoint)
    model = everycell.load_model(options.checkpoint)
    found = validate(model, samples)
    model.card = card.model_copy(
        update={"name": "nuclei", "class_names": ("nucleus",), "score_thresh": found.score_thresh}
    )
    parts = measure_parts(model, samples)
    metrics = {
        "f1_50": parts["all"]["f1"]["0.50"],
        "map": round(found.map, 4),
        "ap50": round(found.ap50, 4),
        "ap75": round(found.ap75, 4),
        "max_dets": found.max_dets,
        "parts": parts,
    }
    values = model.card.model_dump(mode="json") | {"metrics": metrics}
    ship(network, ModelCard.parse(values, "card"))
    print(metrics, found.score_thresh)


if __name__ == "__main__":
    main()
