"""Which recipe finds and names cells best in stained tissue: one change at a time, on one fixed fold of CoNSeP.

    python benchmarks/tissue_experiments.py --data DIR --work WORK NAME [--preset NAME] [--set train.seed=1 …]
                                            [--views flips]

DIR is CoNSeP's training part as cell folders. `FOLD` is held out and decides; the other images are trained on. Runs
live in WORK/NAME and are resumed. Figures of the model after the last step, at the score threshold that gives the best
PQ on the fold, are added to the JSON (`--out`) under NAME. With `--views` a finished run is measured with that
test-time augmentation as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from everycell.config import RunSettings
from everycell.datasets import Dataset, open_dataset
from everycell.evaluate import EvaluationResult, Evaluator
from everycell.files import write_bytes
from everycell.metrics import overlap_of_labels, panoptic_quality
from everycell.predict import load_model
from everycell.predict.views import VIEWS
from everycell.structures import Instances
from everycell.train import Trainer, TrainJob, get_preset
from everycell.train.validation import AP_SCORE_THRESH

FOLD = ("train_2", "train_6", "train_9", "train_20", "train_24", "train_25")
"""All four classes: 84 other, 521 inflammatory, 955 epithelial and 1,199 spindle nuclei or so, dense and sparse."""

_THRESHOLDS = tuple(round(0.2 + 0.05 * i, 2) for i in range(13))
_INTERVALS = ("pq", "aji", "dice", "f_d", "f1_50", "ap50")


class Printed:
    """Prints losses now and then."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}

    def on_start(self, trainer: Trainer) -> None:  # noqa: D102
        print(trainer.init, flush=True)

    def on_step(self, epoch: int, step: int, losses: dict[str, float]) -> None:  # noqa: D102
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value / 100
        if step % 100 == 0:
            print(step, {name: round(value, 3) for name, value in self.sums.items()}, flush=True)
            self.sums = {}

    def on_epoch(self, row: dict[str, Any]) -> None:  # noqa: D102
        print({name: row[name] for name in ("epoch", "train_loss", "val_loss")}, flush=True)


def settings_of(preset: str, changes: list[str]) -> RunSettings:
    """The preset with `table.key=JSON` changes."""
    values = get_preset(preset).model_dump()
    for change in changes:
        place, _, value = change.partition("=")
        table, key = place.split(".")
        values[table][key] = json.loads(value)
    return RunSettings.parse(values, preset)


def train(dataset: Dataset, settings: RunSettings, out: Path) -> Trainer:
    """Train without the fold, going on where an earlier call stopped."""
    held_out = [dataset.names.index(name) for name in FOLD]
    trainer = Trainer(TrainJob(dataset, settings, out, held_out=held_out, data_name="CoNSeP", device="cpu"), Printed())
    trainer.run(resume=True)
    return trainer


def best_threshold(truths: list[Instances], preds: list[Instances]) -> float:
    """The score threshold with the best PQ, blind to classes, mean over images."""

    def pq(threshold: float) -> float:
        found = [pred.select(pred.scores >= threshold) for pred in preds]
        overlaps = [overlap_of_labels(t.to_labels(), p.to_labels()) for t, p in zip(truths, found, strict=True)]
        return float(np.nanmean([panoptic_quality(overlap).pq for overlap in overlaps]))

    return max(_THRESHOLDS, key=pq)


def evaluate_fold(
    dataset: Dataset, model_file: Path, views: str = "none", least_score: float = AP_SCORE_THRESH
) -> EvaluationResult:
    """What a model finds in the fold, from the best threshold on; `views` as in `everycell predict`."""
    model = load_model(model_file)
    samples = [dataset.load(dataset.names.index(name)) for name in FOLD]
    truths = [sample.to_instances(dataset.class_names) for sample in samples]
    preds = [model.predict(sample.image, score_thresh=least_score, views=views) for sample in samples]
    threshold = best_threshold(truths, preds)
    evaluator = Evaluator(dataset.class_names, score_thresh=threshold)
    for name, truth, pred in zip(FOLD, truths, preds, strict=True):
        evaluator.add(name, truth, pred)
    return evaluator.result()


def figures(result: EvaluationResult) -> dict[str, Any]:
    """The figures of a row."""
    found: dict[str, Any] = {"score_thresh": result.score_thresh}
    for key in _INTERVALS:
        interval = result.intervals[key]
        found[key] = [round(value, 4) for value in (interval.value, interval.low, interval.high)]
    found["accuracy"] = round(result.centroids.accuracy, 4)
    found["map"] = round(result.map, 4)
    found["per_class"] = {
        name: {"ap50": round(row.ap50, 4), "f_c": round(row.f_c, 4)} for name, row in result.per_class.items()
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--preset", default="tissue")
    parser.add_argument("--set", nargs="*", default=[], metavar="TABLE.KEY=JSON")
    parser.add_argument("--views", default="none", choices=VIEWS)
    parser.add_argument("--least-score", type=float, default=AP_SCORE_THRESH, help="of the cells that count for AP")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    dataset = open_dataset(args.data)
    settings = settings_of(args.preset, args.set)
    trainer = train(dataset, settings, args.work / args.name)
    row = {
        "preset": args.preset,
        "changes": args.set,
        "steps": trainer.schedule.total_steps,
        "seconds_per_step": trainer.seconds_per_step,
        "views": args.views,
        "least_score": args.least_score,
        **figures(evaluate_fold(dataset, args.work / args.name / "last.safetensors", args.views, args.least_score)),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
    }
    known = json.loads(args.out.read_bytes()) if args.out.exists() else {"fold": FOLD, "runs": {}}
    known["runs"][args.name + (f", views {args.views}" if args.views != "none" else "")] = row
    write_bytes(args.out, json.dumps(known, indent=1).encode())
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
