"""Start weights of a network: a backbone's, or all that fits of another everycell model."""

from __future__ import annotations

import math
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
    """Take every tensor of an everycell model that fits; where the number of classes differs, all start as "any cell".

    Each class then starts with an equal share of the probability of a cell, so that cells are found about as before:
    exactly so from a model of one class, from one of several by the mean of its classes' logits.

    Raises:
        ModelError: the file is missing, damaged, or on another backbone.
    """
    card, state = read_model(path)
    if card.settings.backbone != network.settings.backbone:
        raise ModelError(
            f"{path}: expected a model on {network.settings.backbone}, got one on {card.settings.backbone}; choose "
            "another model or set backbone in [model]"
        )
    scores: Tensor = network.roi_heads.box_predictor.cls_score.bias
    if len(state[f"{_CLASSES}.bias"]) != len(scores):
        state |= _share_classes(state, len(scores) - 1)
    thaw_norms_like(network.backbone.body, {k.removeprefix(_BACKBONE): v for k, v in state.items()})
    own = network.state_dict()
    filled = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict({**own, **filled})
    freeze(network.backbone, network.settings)
    missing, unused = sorted(own.keys() - filled.keys()), sorted(state.keys() - filled.keys())
    return InitReport(path.stem, tuple(sorted(filled)), tuple(missing), tuple(unused), part="model")


def _share_classes(state: dict[str, Tensor], num_classes: int) -> dict[str, Tensor]:
    """Class scores for `num_classes` classes from those for another number; row 0 is background."""
    weight, bias = state[f"{_CLASSES}.weight"].float(), state[f"{_CLASSES}.bias"].float()
    share = math.log((len(bias) - 1) / num_classes)
    cell_weight, cell_bias = weight[1:].mean(0, keepdim=True), bias[1:].mean(0, keepdim=True) + share
    return {
        f"{_CLASSES}.weight": torch.cat([weight[:1], cell_weight.expand(num_classes, -1)]),
        f"{_CLASSES}.bias": torch.cat([bias[:1], cell_bias.expand(num_classes)]),
    }
