"""How a trained network becomes one of the models inside the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal

from everycell.files import write_bytes
from everycell.models import CellMaskRCNN
from everycell.models.checkpoint import ModelCard, file_sha256, save_model, shipped_models


def ship(network: CellMaskRCNN, card: ModelCard, *, bits: Literal[8, 16] = 16) -> None:
    """Write weights with their card under the card's name, and the checksums of all shipped models.

    Args:
        network: with the weights.
        card: the metadata.
        bits: as in `save_model`.
    """
    folder = Path(str(resources.files("everycell.models") / "zoo"))
    save_model(folder / f"{card.name}.safetensors", network.state_dict(), card, bits=bits)
    sums = "".join(f"{file_sha256(path)}  {path.name}\n" for path in shipped_models().values())
    write_bytes(folder / "SHA256SUMS", sums.encode())
