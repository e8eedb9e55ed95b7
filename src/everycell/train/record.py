"""`run.json`: what made a run and how it went, for people and for reports."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torchvision

import everycell
from everycell.files import write_bytes
from everycell.models import count_parameters
from everycell.train.statistics import FINGERPRINT_COVERS

if TYPE_CHECKING:
    from everycell.train.loop import Trainer

_FILE = "run.json"
_VERSIONS_OF = ("accelerate", "numpy", "safetensors")


def versions() -> dict[str, str]:
    """Versions of everycell, Python and the libraries that decide a run's figures."""
    return {
        "everycell": everycell.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    } | {name: version(name) for name in _VERSIONS_OF}


def read_record(folder: Path) -> dict[str, Any]:
    """`run.json` of a run folder; empty where it is missing or damaged, since no result depends on it."""
    try:
        record = json.loads((folder / _FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


class RunRecord:
    """`run.json` of a run folder, written anew with every `save`.

    Args:
        trainer: the run; its facts are taken now.
        resumed: whether an earlier `run.json` is continued.
    """

    def __init__(self, trainer: Trainer, *, resumed: bool) -> None:
        self._trainer, self._path = trainer, trainer.job.out / _FILE
        self._facts = _facts(trainer)
        self._earlier = read_record(trainer.job.out) if resumed else {}
        self._starts = [*self._earlier.get("starts", []), _now()]
        self._begun = time.perf_counter()
        self.add_epoch()

    def add_epoch(self) -> None:
        """Take down how far the run is: what lies beyond its last finished epoch does not count."""
        trainer, earlier = self._trainer, self._earlier
        peaks = [peak for peak in (earlier.get("peak_memory"), trainer.peak_bytes) if peak]
        self._progress = {
            "epochs": trainer.epoch,
            "steps": trainer.schedule.steps,
            "seconds_per_step": trainer.seconds_per_step or earlier.get("seconds_per_step"),
            "peak_memory": max(peaks, default=None),
        }

    def save(self, status: str) -> None:
        """Write the file.

        Args:
            status: running, interrupted, finished or stopped early.
        """
        record = {
            "status": status,
            "starts": self._starts,
            "ended": None if status == "running" else _now(),
            "seconds": round(self._earlier.get("seconds", 0.0) + time.perf_counter() - self._begun, 1),
            **self._progress,
            "peak_memory_of": self._trainer.memory.kind,
            **self._facts,
        }
        write_bytes(self._path, json.dumps(record, indent=1, ensure_ascii=False).encode())


def _facts(trainer: Trainer) -> dict[str, Any]:
    job, processes = trainer.job, trainer.processes
    trained, total = count_parameters(trainer.network)
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "device": str(processes.device),
        "device_name": _device_name(processes.device),
        "threads": torch.get_num_threads(),
        "precision": "bfloat16" if trainer.bf16 else "float32",
        "world_size": processes.count,
        "seed": job.settings.train.seed,
        "init": str(trainer.init),
        "parameters": {"trained": trained, "total": total},
        "class_names": list(job.dataset.class_names),
        "data": _data(trainer),
        "notes": trainer.notes,
    }


def _data(trainer: Trainer) -> dict[str, Any]:
    job, facts = trainer.job, trainer.data_facts

    def cells(indices: Sequence[int]) -> dict[str, int]:
        counts = facts.cells[np.array(indices, np.int64)].sum(axis=0)
        return dict(zip(job.dataset.class_names, counts.tolist(), strict=True))

    train, validation = trainer.train_source.indices, trainer.val_source.indices
    return {
        "name": job.data_name,
        "licence": job.licence,
        "folders": [str(folder.resolve()) for folder in job.folders],
        "fingerprint": f"sha256:{facts.fingerprint}",
        "fingerprint_covers": FINGERPRINT_COVERS,
        "images": {"train": len(train), "validation": len(validation)},
        "cells": {"train": cells(train), "validation": cells(validation)},
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
