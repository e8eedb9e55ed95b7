"""What a stopped run needs to go on: one safetensors file with JSON in its metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from everycell.errors import TrainingError
from everycell.files import write_bytes


@dataclass(frozen=True)
class ResumeState:
    """A run after a finished epoch.

    Attributes:
        tensors: "network.*", "average.*" and "optimizer.*" tensors, and "rng", torch's random state.
        values: JSON values: epoch, schedule, best mAP, history …
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
        raise TrainingError(f"{path}: nothing to resume; start without --resume") from None
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise TrainingError(f"{path}: damaged ({error}); start anew without --resume") from None
