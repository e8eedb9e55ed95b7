"""From a name or a file to a `Model` on a device."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from everycell.errors import ConfigError, ModelError
from everycell.models import fold_norms, supports_bf16
from everycell.models.checkpoint import file_sha256, find_model, load_network
from everycell.models.exported import is_exported, open_exported
from everycell.models.roi_heads import Detections
from everycell.models.winograd import speed_up
from everycell.predict.predictor import Model


class ExportedModel(Model):
    """A model that was exported, run by another runtime, in float32 on the CPU."""

    def __init__(self, path: Path) -> None:
        """Load what `everycell export` wrote.

        Raises:
            ModelError: the file is damaged or not everycell's.
            ConfigError: a package that runs it is not installed.
        """
        exported = open_exported(path)
        self._program = exported.program
        super().__init__(None, exported.card, torch.device("cpu"), bf16=False, sha256=exported.sha256, path=path)

    def _forward(self, scaled: Tensor, thresh: float) -> Detections:
        return self._program(scaled, thresh)


def choose_device(name: str) -> torch.device:
    """The device of a `--device` value: auto takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ConfigError: the device is unknown or not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if there[device]))
    if not there.get(name, False):
        raise ConfigError(
            f"device must be auto or one of {', '.join(d for d in there if there[d])} on this machine, got {name!r}"
        )
    return torch.device(name)


def load_model(name_or_path: str | Path, *, device: str = "auto", bf16: bool = True) -> Model:
    """Load a shipped model by name, or any everycell model file.

    Args:
        name_or_path: a name that `everycell models` lists, a `.safetensors` file, or what `everycell export` wrote.
        device: auto, cpu, cuda or mps.
        bf16: run convolutions in bfloat16 where the device is faster with it; exported models stay in float32.

    Raises:
        ModelError: the model is unknown, damaged or not everycell's.
        ConfigError: the device is not there.
    """
    place = choose_device(device)
    path = find_model(name_or_path)
    if is_exported(path):
        if device not in ("auto", "cpu"):
            raise ConfigError(f"{path}: exported models run on the CPU; use the .safetensors file with {device}")
        return ExportedModel(path)
    network, card = load_network(path)
    fold_norms(network)
    speed_up(network, frozen=True)
    network = network.to(place).to(memory_format=torch.channels_last)
    return Model(network, card, place, bf16=bf16 and supports_bf16(place), sha256=file_sha256(path), path=path)


def load_again(path: Path, device: str, bf16: bool, sha256: str) -> Model:
    """The same model in another process, on its best device unless this one used the CPU."""
    model = load_model(path, device="cpu" if device == "cpu" else "auto", bf16=bf16)
    if model.sha256 != sha256:
        raise ModelError(f"{path}: another model than where this run was started; copy the same file to all machines")
    return model
