"""What a stopped run needs to go on: one safetensors file with JSON in its metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from everycell.config import RunSettings
from everycell.errors import TrainingError
from everycell.files import write_bytes


@dataclass(frozen=True)
class ResumeState:
    """A run after a finished epoch.

    Attributes:
        tensors: "network.*", "average.*" and "optimizer.*" tensors.
        values: JSON values: epoch, schedule, best mAP, history, settings … No random state: each epoch is seeded anew.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """Tensors whose name begins with `name.`, without that prefix."""
        return {key.removeprefix(f"{name}."): t for key, t in self.tensors.items() if key.startswith(f"{name}.")}


def write_resume(path: Path, state: ResumeState) -> None:
    """Write `state` to `path` in one piece."""
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.tensors.items()}
    write_bytes(path, save(tensors, metadata={"values": json.dumps(state.values)}))


def read_resume(path: Path) -> ResumeState:
    """Read what `write_resume` wrote.

    Raises:
        TrainingError: the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return ResumeState(tensors, json.loads(file.metadata()["values"]))
    except FileNotFoundError:
        raise TrainingError(f"{path}: no such file; start without --resume") from None
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise TrainingError(f"{path}: damaged ({error}); start anew without --resume") from None


def check_same(path: Path, state: ResumeState, settings: RunSettings, fingerprint: str) -> None:
    """Check that a run goes on with the settings and the data that it was begun with.

    Raises:
        TrainingError: it does not; every difference is listed as `key: old → new`.
    """
    # Validated anew, so that settings which came later have their default, which is what that run did.
    before = _flat(RunSettings.parse(state.values["settings"], str(path)).model_dump(mode="json"))
    before["data"] = state.values.get("data", fingerprint)
    now = {**_flat(settings.model_dump(mode="json")), "data": fingerprint}
    changed = [f"{key}: {before[key]} → {value}" for key, value in now.items() if before[key] != value]
    if changed:
        raise TrainingError(
            f"{path}: was made with other settings or data ({'; '.join(changed)}); "
            "use the same ones, or another run folder"
        )


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    return {f"{table}.{key}": value for table, settings in values.items() for key, value in settings.items()}
