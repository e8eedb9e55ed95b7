"""A class head of its own: which class a cell is of shows in its surroundings more than in itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from everycell.models.roi_align import PyramidRoIAlign

_HIDDEN = 256


class ContextClassHead(nn.Module):
    """Names cells by features of the box and of the box widened about its centre.

    The box head then only tells cells from background. This head runs on what is kept of its boxes, so it costs little.
    """

    def __init__(self, pool: PyramidRoIAlign, channels: int, num_classes: int, widening: float) -> None:
        """Make a head with random weights.

        Args:
            pool: RoIAlign for boxes and widened boxes.
            channels: of the feature maps.
            num_classes: K, background not counted.
            widening: side of the widened box over that of the box.
        """
        super().__init__()
        self.pool, self.widening = pool, widening
        self.head = TwoMLPHead(2 * channels * pool.output_size**2, _HIDDEN)
        self.predictor = nn.Linear(_HIDDEN, num_classes)

    def see(self, features: dict[str, Tensor], boxes: list[Tensor], shapes: list[tuple[int, int]]) -> Tensor:
        """Features [P, 2 × channels, size, size] of all boxes, float32 [N, 4] of each image, and of what is around."""
        seen = [self.pool(features, some, shapes) for some in (boxes, [_widen(box, self.widening) for box in boxes])]
        return torch.cat(seen, dim=1)

    def forward(self, seen: Tensor) -> Tensor:
        """Logits float32 [P, K] of what `see` gave."""
        logits: Tensor = self.predictor(self.head(seen))
        return logits.float()


def _widen(boxes: Tensor, factor: float) -> Tensor:
    centers, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * (factor / 2)
    return torch.cat([centers - halves, centers + halves], dim=1)
