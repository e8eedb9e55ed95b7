"""Turn two finished training runs into the shipped model `tissue4` and the figures and picture on its card.

    python benchmarks/publish_tissue.py --shipped RUN/last.safetensors --fold FOLD_RUN/last.safetensors --data DIR

`--shipped` was trained on all of CoNSeP's training part, `--fold` by the same recipe without the six images of
`tissue_experiments.FOLD`. The latter is measured on those, as float16 like the former, which gives the score threshold
and the figures: the former is written with them, and its checksum, into the package.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from everycell.datasets import Dataset, open_dataset
from everycell.errors import ConfigError
from everycell.evaluate import EvaluationResult
from everycell.files import write_bytes
from everycell.models.checkpoint import ModelCard, load_network, save_model
from everycell.plot import overlay, save_png
from everycell.predict import load_model
from everycell.structures import Instances
from shipping import ship
from tissue_experiments import FOLD, evaluate_fold, figures

CLASSES = ("other", "inflammatory", "epithelial", "spindle")
MPP = 0.275
PREDICTION = {"rpn_nms_thresh": 0.6, "proposals_test": 1000}
"""Settings that differ from the training's: half as many boxes around each cell, and the same cells."""
PICTURE = Path(__file__).parent.parent / "docs/images/tissue4.png"
_MAY_DIFFER = {"epoch", "val_fraction", "val_limit", "validate_every"}
_SHOWN = {"train_9": (250, 250), "train_20": (250, 250), "train_24": (250, 250)}  # image → first row and column
_SIDE_PX, _GAP_PX = 500, 20


def recipe_of(card: ModelCard) -> dict[str, object]:
    """Everything that decides about the weights, but the images."""
    settings = {name: value for name, value in card.recipe.items() if name not in _MAY_DIFFER}
    return {**settings, "model": card.settings.model_dump(mode="json")}


def for_prediction(card: ModelCard) -> ModelCard:
    """The card with the settings that prediction takes."""
    return card.model_copy(update={"settings": card.settings.model_copy(update=PREDICTION)})


def draw(cells: Instances, corner: tuple[int, int]) -> np.ndarray:
    """Cells of a square part of the image, filled with the colours of their classes, on white; uint8 [H, W, 3]."""
    white = np.full((*cells.image_size, 3), 255, np.uint8)
    top, left = corner
    enlarged = overlay(white, cells, opacity=0.6)
    factor = len(enlarged) // len(white)
    return enlarged[::factor, ::factor][top : top + _SIDE_PX, left : left + _SIDE_PX]


def picture(dataset: Dataset, model_file: Path, threshold: float) -> np.ndarray:
    """True cells above, found ones below, of three images of the fold."""
    model = load_model(model_file)
    columns = []
    for name, corner in _SHOWN.items():
        sample = dataset.load(dataset.names.index(name))
        pair = [draw(sample.to_instances(), corner), draw(model.predict(sample.image, score_thresh=threshold), corner)]
        columns.append(
            np.concatenate([np.pad(part, ((0, _GAP_PX), (0, _GAP_PX), (0, 0)), constant_values=255) for part in pair])
        )
    return np.concatenate(columns, axis=1)


def details(result: EvaluationResult) -> dict[str, object]:
    """What the card says beyond the figures: classes of true and found cells, what became of them, each image's PQ."""
    errors = result.errors
    return {
        "confusion": errors.confusion.counts,
        "errors": {"true": errors.truth, "found": errors.pred},
        "pq_of_images": {image.name: round(image.pq, 4) for image in result.per_image},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shipped", type=Path, required=True)
    parser.add_argument("--fold", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    network, card = load_network(options.shipped)
    fold, fold_card = load_network(options.fold)
    if recipe_of(card) != recipe_of(fold_card):
        raise ConfigError(f"{options.shipped} and {options.fold} were trained by different recipes")
    dataset = open_dataset(options.data)
    with tempfile.TemporaryDirectory() as folder:
        half = Path(folder) / "fold.safetensors"
        save_model(half, fold.state_dict(), for_prediction(fold_card), half=True)
        result = evaluate_fold(dataset, half)
        found = figures(result)
        save_png(picture(dataset, half, found["score_thresh"]), PICTURE)
    values = for_prediction(card).model_dump(mode="json") | {
        "name": "tissue4",
        "class_names": CLASSES,
        "score_thresh": found["score_thresh"],
        "mpp": MPP,
        "metrics": {"held_out": FOLD, **found, "f1_50": found["f1_50"][0]},
    }
    ship(network, ModelCard.parse(values, "card"))
    about = {"date": datetime.now(UTC).date().isoformat(), "fold": FOLD, "recipe": recipe_of(card)}
    record = {**about, **found, **details(result)}
    write_bytes(Path(__file__).with_name("tissue_quality.json"), json.dumps(record, indent=1).encode())
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
