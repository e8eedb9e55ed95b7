"""How a trained network becomes one of the models inside the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from everycell.files import write_bytes
from everycell.models import CellMaskRCNN
from everycell.models.checkpoint import ModelCard, file_sha256, save_model, shipped_models


def ship(network: CellMaskRCNN, card: ModelCard) -> None:
    """Write weights as float16 with their card under the card's name, and the checksums of all shipped models."""
    folder = Path(str(resources.files("everycell.models") / "zoo"))
    save_model(folder / f"{card.name}.safetensors", network.state_dict(), card, half=True)
    sums = "".join(f"{file_sha256(path)}  {path.name}\n" for path in shipped_models().values())
    write_bytes(folder / "SHA256SUMS", sums.encode())
