"""Model files: one `.safetensors` each, with a card in its metadata. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from everycell.config import ModelSettings, Settings
from everycell.errors import ConfigError, ModelError
from everycell.files import write_bytes
from everycell.models.backbones import freeze, thaw_norms_like
from everycell.models.mask_rcnn import CellMaskRCNN

CARD_KEY = "everycell"
"""Where the card is, in the metadata of a model file of any format."""


class ModelCard(Settings):
    """What a model is, where it comes from and how well it does; stored inside its file."""

    name: str
    settings: ModelSettings
    class_names: tuple[str, ...]
    score_thresh: float = Field(0.5, description="chosen on validation data; `predict` keeps cells at or above it")
    mpp: float | None = Field(None, description="µm per px of the training images, None when mixed or unknown")
    diameter_px: tuple[float, float, float] | None = Field(
        None, description="1st, 50th and 99th percentile of the training cells' equivalent diameter, image px"
    )
    data: str = ""
    licence: str = ""
    recipe: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


def save_model(path: Path, state: Mapping[str, Tensor], card: ModelCard, *, half: bool = False) -> None:
    """Write weights and card to `path`.

    Args:
        path: a `.safetensors` file.
        state: a `CellMaskRCNN.state_dict()`.
        card: the metadata.
        half: store kernels and matrices as float16. Norms and biases, a thousandth of a model, stay as they are: a
            variance of ImageNet's weights is beyond what float16 can hold.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {
        key: (value.half() if half and value.dim() > 1 else value).detach().cpu().contiguous()
        for key, value in state.items()
    }
    write_bytes(path, save(tensors, metadata={CARD_KEY: card.model_dump_json()}))


def read_card(path: Path) -> ModelCard:
    """The card of a model file, without reading its weights.

    Raises:
        ModelError: the file is missing, damaged, or not an everycell model.
    """
    return _read(path, tensors=False)[0]


def is_model(path: Path) -> bool:
    """Whether a file is an everycell model, and not some other `.safetensors` file or nothing at all."""
    try:
        with safe_open(path, "pt") as file:
            return CARD_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_model(path: Path) -> tuple[ModelCard, dict[str, Tensor]]:
    """The card and the tensors of a model file.

    Raises:
        ModelError: the file is missing, damaged, or not an everycell model.
    """
    return _read(path, tensors=True)


def load_network(path: Path) -> tuple[CellMaskRCNN, ModelCard]:
    """The network of a model file in evaluation mode, float32 on the CPU, and its card.

    Raises:
        ModelError: the file is missing, damaged, or not an everycell model.
    """
    card, state = read_model(path)
    try:
        network = CellMaskRCNN(card.settings, len(card.class_names))
        thaw_norms_like(network.backbone.body, {k.removeprefix("backbone.body."): v for k, v in state.items()})
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except (ConfigError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"{path}: weights do not fit the settings in its card ({reason}); get the file anew") from None
    freeze(network.backbone, card.settings)
    return network.eval().to(memory_format=torch.channels_last), card


def _read(path: Path, *, tensors: bool) -> tuple[ModelCard, dict[str, Tensor]]:
    if not path.is_file():
        raise ModelError(f"{path}: no such model file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()} if tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"{path}: not a .safetensors file, or damaged ({error}); get the file anew") from None
    if CARD_KEY not in metadata:
        raise ModelError(f"{path}: a .safetensors file but not an everycell model; train one with `everycell train`")
    return parse_card(metadata[CARD_KEY], path), state


def parse_card(text: str, path: Path) -> ModelCard:
    """The card of the model file `path`, from the JSON in its metadata.

    Raises:
        ModelError: it is damaged, or of another version.
    """
    try:
        return ModelCard.parse(json.loads(text), str(path))
    except (ConfigError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: its card cannot be read by this version ({error})") from None


def shipped_models() -> dict[str, Path]:
    """Models inside the package: name → file."""
    folder = Path(str(resources.files("everycell.models") / "zoo"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def find_model(name_or_path: str | Path) -> Path:
    """The file of a shipped model's name, or of a path.

    Raises:
        ModelError: there is no such name or file; the message lists the shipped names.
    """
    shipped = shipped_models()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = ", ".join(shipped) or "none in this installation"
    raise ModelError(f"no model named {str(name_or_path)!r} and no such file; shipped models: {known}")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
