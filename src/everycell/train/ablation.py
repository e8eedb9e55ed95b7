"""The report's two ablation tables: four switches, eight rows, trained alike on any data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from everycell.config import RunSettings, Settings
from everycell.datasets import split
from everycell.errors import ConfigError, OutputError
from everycell.files import make_folder, write_bytes
from everycell.train.loop import Listener, Trainer, TrainJob
from everycell.train.presets import PRESETS

# What each switch turns from the baseline's value to the reference's.
_SWITCHES = {
    "resnet101": ("model", "backbone"),
    "augmentation": ("train", "recipe"),
    "mask-head": ("model", "mask_head"),
    "anchors": ("model", "anchor_sizes"),
}
# AP50 of each row on the report's own data, by the switches that are on.
REPORT_AP50: dict[str, float] = {
    "baseline": 0.23,
    "resnet101": 0.32,
    "augmentation": 0.29,
    "mask-head": 0.25,
    "anchors": 0.31,
    "resnet101+augmentation": 0.38,
    "resnet101+augmentation+mask-head": 0.39,
    "resnet101+augmentation+mask-head+anchors": 0.47,
}
_EPOCH_STEPS = 50
_REPORT_SIDE_PX = 512
# Name in the results → column of the history.
_MEASURES = {
    "ap50": "val_ap50",
    "map": "val_map",
    "ap75": "val_ap75",
    "f1_50": "val_f1_50",
    "train_loss": "train_loss",
    "val_loss": "val_loss",
}


class AblationSettings(Settings):
    """What all rows of an ablation have in common.

    Attributes:
        steps: optimizer steps of every row, rounded up to whole epochs of about 50.
        crop_px: side of training crops at the image's own scale; None trains on whole images with the short side at
            512 px, as the report does. A crop samples RoIs in proportion to its area: 512 in 512 × 512 px.
        seeds: how many times each row is trained; seeds 0, 1, … change weights, crops and order, never the split.
        val_fraction: share of images held out.
        bf16: as in training.
        init_weights: as in training.
    """

    steps: int = Field(1500, ge=1)
    crop_px: int | None = Field(None, ge=64)
    seeds: int = Field(1, ge=1)
    val_fraction: float = Field(0.2, gt=0, lt=1)
    bf16: bool = True
    init_weights: str = "imagenet"


@dataclass(frozen=True)
class AblationRun:
    """One training of one row."""

    row: str
    seed: int
    folder: Path
    settings: RunSettings


class Ablation:
    """Trains rows into `out/<row>/seed<k>` and sums them up; what is finished there already is kept.

    Args:
        job: the data; its settings and folder are replaced for each run.
        settings: what the rows have in common.
        out: where everything goes.
        rows: names out of `REPORT_AP50`; all when empty.

    Raises:
        ConfigError: a row is unknown.
        OutputError: `out` holds an ablation with other settings or data.
    """

    def __init__(self, job: TrainJob, settings: AblationSettings, out: Path, rows: Sequence[str] = ()) -> None:
        unknown = [row for row in rows if row not in REPORT_AP50]
        if unknown:
            raise ConfigError(f"unknown row {unknown[0]!r}; known are {', '.join(REPORT_AP50)}")
        self.job, self.settings, self.out = job, settings, out
        self.rows = [row for row in REPORT_AP50 if row in rows or not rows]
        _, self.held_out = split(len(job.dataset), fraction=settings.val_fraction, seed=0, groups=job.groups)
        self._claim()

    @cached_property
    def conditions(self) -> dict[str, Any]:
        """Everything but rows and seeds that decides the figures, as JSON values."""
        names = self.job.dataset.names
        return {
            "data": self.job.data_name,
            "images": len(names),
            "validation": [names[i] for i in self.held_out],
            "class_names": list(self.job.dataset.class_names),
            **self.settings.model_dump(mode="json", exclude={"seeds"}),
            "init_weights": Path(self.settings.init_weights).name,
        }

    def _claim(self) -> None:
        """Write the conditions into `out`, or check that they are the ones already there."""
        path = self.out / "conditions.json"
        make_folder(self.out)
        if not path.exists():
            write_bytes(path, json.dumps(self.conditions, indent=1).encode())
            return
        before = json.loads(path.read_bytes())
        differ = sorted(k for k in before | self.conditions if before.get(k) != self.conditions.get(k))
        if differ:
            changes = "; ".join(f"{key}: {before.get(key)} → {self.conditions.get(key)}" for key in differ)
            raise OutputError(
                f"{self.out}: holds an ablation under other conditions ({changes}); choose another folder"
            )

    def runs(self) -> list[AblationRun]:
        """Every run in order: all rows with the first seed, then all with the next."""
        return [
            AblationRun(row, seed, self.out / row / f"seed{seed}", row_settings(row, self.settings, seed))
            for seed in range(self.settings.seeds)
            for row in self.rows
        ]

    def is_done(self, run: AblationRun) -> bool:
        """Whether `run` has its result."""
        return (run.folder / "result.json").exists()

    def train(self, run: AblationRun, listener: Listener) -> None:
        """Train `run` to the end, going on from where it stopped, and write its result."""
        job = TrainJob(
            **{**vars(self.job), "settings": run.settings, "out": run.folder, "held_out": self.held_out},
        )
        resume = run.folder / "resume.safetensors"
        Trainer(job, listener).run(resume=resume.exists())
        last = pd.read_csv(run.folder / "history.csv").iloc[-1]
        result = {name: float(last[column]) for name, column in _MEASURES.items()}
        write_bytes(run.folder / "result.json", json.dumps(result, indent=1).encode())
        resume.unlink()  # three times the size of the model, and of no more use

    def results(self) -> dict[str, list[dict[str, float]]]:
        """Every result in the folder, by row, in order of seeds; of rows and seeds that were asked for earlier too."""
        found: dict[str, list[dict[str, float]]] = {}
        for row in REPORT_AP50:
            paths = (self.out / row).glob("seed*/result.json")
            for seed, path in sorted((int(path.parent.name.removeprefix("seed")), path) for path in paths):
                found.setdefault(row, []).append({"seed": seed, **json.loads(path.read_bytes())})
        return found


def row_settings(row: str, common: AblationSettings, seed: int) -> RunSettings:
    """The baseline's settings with the switches of `row` turned to the reference's."""
    values, reference = (PRESETS[name].model_dump() for name in ("baseline", "reference"))
    for switch in row.split("+") if row != "baseline" else ():
        table, key = _SWITCHES[switch]
        values[table][key] = reference[table][key]
    epochs = -(-common.steps // _EPOCH_STEPS)
    values["train"] |= {
        "seed": seed,
        "bf16": common.bf16,
        "init_weights": common.init_weights,
        "epochs": epochs,
        "steps_per_epoch": -(-common.steps // epochs),
        "validate_every": epochs,
        "crop_px": common.crop_px,
    }
    if common.crop_px is not None:
        share = min(1.0, (common.crop_px / _REPORT_SIDE_PX) ** 2)
        values["model"] |= {
            "resize_short_px": None,
            "box_batch_per_image": max(1, round(values["model"]["box_batch_per_image"] * share)),
        }
    return RunSettings.parse(values, f"row {row}")


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and the sample standard deviation where there are two values or more."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
