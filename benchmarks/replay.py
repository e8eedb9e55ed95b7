"""A network of random weights that behaves, and the boxes of one network handed to another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from everycell.config import ModelSettings
from everycell.models import CellMaskRCNN

Methods = tuple[tuple[str, str], ...]
"""Parts of a network, and what they call."""

PREDICTED: Methods = (("rpn", "forward"), ("roi_heads", "postprocess_detections"))
"""Proposals, and boxes, scores and labels."""

LEARNT: Methods = (
    ("rpn", "assign_targets_to_anchors"),
    ("rpn", "fg_bg_sampler"),
    ("roi_heads", "select_training_samples"),
)
"""The cell of each anchor, and the anchors and RoIs that a training step draws."""

_CLASS_GAIN = 20.0
_OBJECTNESS_BIAS = -2.0


def random_network(settings: ModelSettings, num_classes: int, image: Tensor) -> CellMaskRCNN:
    """A network whose norms fit its random weights, as in a trained one; else values would grow from layer to layer.

    Args:
        settings: of the network.
        num_classes: background not counted.
        image: float32 [3, H, W] in [0, 1], by which the norms are set.
    """
    torch.manual_seed(0)
    network = CellMaskRCNN(settings, num_classes).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
            norm.register_forward_pre_hook(_fit_norm)
    with torch.inference_mode():
        torch.nn.init.constant_(network.rpn.head.cls_logits.bias, _OBJECTNESS_BIAS)  # believed proposals know no limit
        network.roi_heads.box_predictor.cls_score.weight.mul_(_CLASS_GAIN)
        network.roi_heads.score_thresh = 0.0
        network([image])
    return network


def _fit_norm(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
    norm.running_var.copy_(inputs[0].var((0, 2, 3)))


def record(network: nn.Module, folder: Path, methods: Methods = PREDICTED) -> None:
    """From now on keep what `methods` gave in the network's last pass in `folder`."""

    def keep(file: Path, call: Callable[..., Any]) -> Callable[..., Any]:
        def recording(*arguments: Any) -> Any:
            result = call(*arguments)
            torch.save(result, file)
            return result

        return recording

    _replace(network, folder, methods, keep)


def replay(network: nn.Module, folder: Path, methods: Methods = PREDICTED) -> None:
    """From now on the network calls its own `methods`, and goes on with what is in `folder`."""

    def exchange(file: Path, call: Callable[..., Any]) -> Callable[..., Any]:
        def replaying(*arguments: Any) -> Any:
            call(*arguments)
            return torch.load(file)

        return replaying

    _replace(network, folder, methods, exchange)


def _replace(
    network: nn.Module, folder: Path, methods: Methods, by: Callable[[Path, Callable[..., Any]], Callable[..., Any]]
) -> None:
    for part, method in methods:
        owner = getattr(network, part)
        setattr(owner, method, by(folder / f"{part}.{method}.pt", getattr(owner, method)))
