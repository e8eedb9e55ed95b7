"""What a run writes: settings, split, history, models, the state to resume from, and `run.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from everycell.config import to_toml
from everycell.files import make_folder, remove_leftovers, write_bytes
from everycell.models.checkpoint import save_model
from everycell.train.history import History
from everycell.train.record import RunRecord
from everycell.train.resume import ResumeState, write_resume
from everycell.train.validation import Validation

if TYPE_CHECKING:
    from everycell.train.loop import Trainer

RESUME_FILE = "resume.safetensors"
# The state to resume from goes first: without it nothing else can be taken for part of the new run.
_OF_EARLIER_RUNS = (RESUME_FILE, "run.json", "history.csv", "curves.png", "best.safetensors", "last.safetensors")


class RunWriter:
    """Writes the run folder; in process 0 alone.

    Every file appears whole. The state to resume from is written after all other files of its epoch, so a run that is
    killed in between repeats that epoch and writes them again.
    """

    def __init__(self, trainer: Trainer, rows: list[dict[str, Any]], *, resumed: bool) -> None:
        """Begin.

        Args:
            trainer: the run.
            rows: history of the epochs that are finished; without any, the files of an earlier run are removed.
            resumed: whether `run.json` is continued.
        """
        self._trainer, self._path = trainer, trainer.job.out
        make_folder(self._path)
        remove_leftovers(self._path)
        self._record = RunRecord(trainer, resumed=resumed)
        if not rows:
            for name in _OF_EARLIER_RUNS:
                (self._path / name).unlink(missing_ok=True)
        write_bytes(self._path / "settings.toml", to_toml(trainer.job.settings).encode())
        write_bytes(self._path / "split.csv", self._split().encode())
        self._history = History(self._path, rows)
        self._record.save("running")

    def add_start(self, validation: Validation) -> None:
        """Write the start model as the best so far."""
        self._save_models(("best",), validation)

    def add_epoch(self, row: dict[str, Any], validation: Validation | None, *, is_best: bool) -> None:
        """Write everything that an epoch changes."""
        self._history.add(row)
        self._save_models(("last", "best") if is_best else ("last",), validation)
        write_resume(self._path / RESUME_FILE, self._state())
        self._record.add_epoch()
        self._record.save("running")

    def close(self, status: str) -> None:
        """End with a `status` as in `RunRecord.save`."""
        self._history.close()
        self._record.save(status)

    def _save_models(self, names: Sequence[str], validation: Validation | None) -> None:
        """Write the model of this moment under each of `names`."""
        weights, card = self._trainer.result().state_dict(), self._trainer.card(validation)
        for name in names:
            save_model(self._path / f"{name}.safetensors", weights, card)

    def _split(self) -> str:
        names = self._trainer.job.dataset.names
        sides = [(names[i], "train") for i in self._trainer.train_source.indices]
        sides += [(names[i], "validation") for i in self._trainer.val_source.indices]
        return "image,side\n" + "".join(f"{name},{side}\n" for name, side in sorted(sides))

    def _state(self) -> ResumeState:
        trainer = self._trainer
        tensors, schedule = trainer.schedule.state()
        parts = {"network": trainer.network.state_dict(), "optimizer": tensors}
        if trainer.average is not None:
            parts["average"] = trainer.average.state_dict()
        values = {
            "epoch": trainer.epoch,
            "schedule": schedule,
            "best": trainer.best,
            "since_best": trainer.since_best,
            "rows": self._history.rows,
            "settings": trainer.job.settings.model_dump(mode="json"),
            "data": trainer.data_facts.fingerprint,
        }
        return ResumeState({f"{part}.{k}": v for part, state in parts.items() for k, v in state.items()}, values)
