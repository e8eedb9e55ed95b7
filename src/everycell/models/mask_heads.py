"""Mask heads: torchvision's standard one, and the report's wider predictor."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from everycell.config import ModelSettings

_WIDE = 512


class CellMaskPredictor(MaskRCNNPredictor):
    """torchvision's `MaskRCNNPredictor`, with dropout and a transposed convolution that is several times faster.

    With stride 2 and a 2×2 kernel each output pixel comes from one input pixel, so the transposed convolution is a 1×1
    one to four times the channels. What follows works on each pixel alone: only the logits are put into place.
    """

    def __init__(self, channels: int, num_classes: int, *, dropout: float) -> None:
        super().__init__(channels, channels, num_classes)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Mask logits [P, num_classes, 2 * H, 2 * W] of features [P, channels, H, W]."""
        up, (p, _, height, width) = self.conv5_mask, x.shape
        kernels, bias = up.weight.permute(2, 3, 1, 0).flatten(0, 2), up.bias.repeat(4)
        quads = self.relu(F.conv2d(x, kernels[:, :, None, None], bias)).permute(0, 2, 3, 1)
        pixels = quads.reshape(p, height, 4 * width, up.out_channels).permute(0, 3, 1, 2)
        logits: Tensor = self.mask_fcn_logits(self.dropout(pixels))
        parted = logits.reshape(p * logits.shape[1], height, width, 2, 2)
        return parted.transpose(2, 3).reshape(p, logits.shape[1], 2 * height, 2 * width)


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
        return head, CellMaskPredictor(channels, num_classes, dropout=settings.mask_dropout)
    upsample = settings.mask_head == "wide28"
    return head, wide_predictor(channels, num_classes, upsample=upsample, dropout=settings.mask_dropout)
