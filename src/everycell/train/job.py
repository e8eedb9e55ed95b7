"""What a run is told, and who hears how it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from everycell.config import RunSettings
from everycell.datasets import Dataset

if TYPE_CHECKING:
    from everycell.train.loop import Trainer


class Listener(Protocol):
    """Hears how a run goes on; only that of process 0 does."""

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step."""

    def on_step(self, epoch: int, step: int, losses: dict[str, float]) -> None:
        """After every optimizer step; `step` counts from 1 over the whole run."""

    def on_epoch(self, row: dict[str, Any]) -> None:
        """After every epoch, with its row of the history; first with epoch 0 where the start model is validated."""


@dataclass(frozen=True)
class TrainJob:
    """One run.

    Attributes:
        dataset: images with their truth.
        settings: model and schedule.
        out: the run folder.
        groups: one a image; images of one group stay on one side of the split.
        held_out: indices of the validation images; drawn by the settings' seed when None.
        data_name: what the model card says it was trained on.
        licence: of that data.
        device: auto, cpu, cuda or mps.
        workers: processes that make training examples, for each training process; None: as many as suit the device.
        folders: where the data lies, for `run.json`.
    """

    dataset: Dataset
    settings: RunSettings
    out: Path
    groups: list[int] | None = None
    held_out: Sequence[int] | None = None
    data_name: str = ""
    licence: str = ""
    device: str = "auto"
    workers: int | None = None
    folders: Sequence[Path] = ()
