"""Start weights of a network: a backbone's, or all that fits of another everycell model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from everycell.errors import ModelError
from everycell.models.backbones import InitReport, freeze, init_backbone, thaw_norms_like
from everycell.models.checkpoint import is_model, read_model, shipped_models
from everycell.models.mask_rcnn import CellMaskRCNN

_BACKBONE = "backbone.body."
_CLASSES = "roi_heads.box_predictor.cls_score"


def init_network(network: CellMaskRCNN, source: str | Path) -> InitReport:
    """Fill a new network from `source`.

    Args:
        network: with random weights.
        source: "imagenet", "random", a backbone's .safetensors file, or an everycell model, by name or file.

    Raises:
        ModelError: the source is missing, damaged, or nothing of it fits.
    """
    path = shipped_models().get(str(source), Path(source))
    if is_model(path):
        return fill_from_model(network, path)
    return init_backbone(network.backbone, network.settings, source)


def fill_from_model(network: CellMaskRCNN, path: Path) -> InitReport:
    """Take every tensor of an everycell model that fits; a model of one class lends its class to all of the network's.

    Each class then starts with an equal share of the one class's probability, so that cells are found as before.

    Raises:
        ModelError: the file is missing, damaged, or on another backbone.
    """
    card, state = read_model(path)
    if card.settings.backbone != network.settings.backbone:
        raise ModelError(
            f"{path}: expected a model on {network.settings.backbone}, got one on {card.settings.backbone}; choose "
            "another model or set backbone in [model]"
        )
    if len(card.class_names) == 1 and network.num_classes > 1:
        state |= _split_class(state, network.num_classes)
    thaw_norms_like(network.backbone.body, {k.removeprefix(_BACKBONE): v for k, v in state.items()})
    own = network.state_dict()
    filled = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict({**own, **filled})
    freeze(network.backbone, network.settings)
    missing, unused = sorted(own.keys() - filled.keys()), sorted(state.keys() - filled.keys())
    return InitReport(path.stem, tuple(sorted(filled)), tuple(missing), tuple(unused), part="model")


def _split_class(state: dict[str, Tensor], num_classes: int) -> dict[str, Tensor]:
    """Class scores for `num_classes` classes from those for one: rows of background and cell."""
    weight, bias = state[f"{_CLASSES}.weight"].float(), state[f"{_CLASSES}.bias"].float()
    rows = torch.tensor([0] + [1] * num_classes)
    share = torch.log(torch.tensor([1.0] + [num_classes] * num_classes))
    return {f"{_CLASSES}.weight": weight[rows], f"{_CLASSES}.bias": bias[rows] - share}
