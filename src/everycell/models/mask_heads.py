"""Mask heads: torchvision's standard one, and the report's wider predictor."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from everycell.config import ModelSettings

_WIDE = 512


def wide_predictor(in_channels: int, num_classes: int, *, upsample: bool, dropout: float) -> nn.Sequential:
    """Four 3×3 convolutions of 512 channels, each with batch norm and ReLU, then 1×1 to one mask a class.

    Args:
        in_channels: channels of the mask head's features, [P, in_channels, 14, 14].
        num_classes: classes with background.
        upsample: double the resolution (28×28) before the last convolution.
        dropout: share of channels dropped before the last convolution.

    Returns:
        A module to mask logits [P, num_classes, 14, 14] (28, 28 with `upsample`).
    """
    layers: list[tuple[str, nn.Module]] = []
    for i in range(1, 5):
        layers += [
            (f"conv{i}", nn.Conv2d(in_channels if i == 1 else _WIDE, _WIDE, 3, padding=1)),
            (f"bn{i}", nn.BatchNorm2d(_WIDE)),
            (f"relu{i}", nn.ReLU(inplace=True)),
        ]
    if upsample:
        layers += [("upsample", nn.ConvTranspose2d(_WIDE, _WIDE, 2, 2)), ("relu5", nn.ReLU(inplace=True))]
    if dropout:
        layers.append(("dropout", nn.Dropout2d(dropout)))
    layers.append(("mask_fcn_logits", nn.Conv2d(_WIDE, num_classes, 1)))
    return nn.Sequential(OrderedDict(layers))


def build_mask_head(settings: ModelSettings, num_classes: int) -> tuple[nn.Module, nn.Module]:
    """The (head, predictor) pair of `settings.mask_head` for `num_classes` classes with background."""
    channels = settings.mask_channels
    head = MaskRCNNHeads(settings.fpn_channels, (channels,) * 4, 1)
    if settings.mask_head == "standard":
        predictor = MaskRCNNPredictor(channels, channels, num_classes)
        if settings.mask_dropout:
            predictor.relu = nn.Sequential(predictor.relu, nn.Dropout2d(settings.mask_dropout))
        return head, predictor
    upsample = settings.mask_head == "wide28"
    return head, wide_predictor(channels, num_classes, upsample=upsample, dropout=settings.mask_dropout)
