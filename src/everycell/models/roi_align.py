"""RoIAlign over the feature pyramid (He et al. 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper


class PyramidRoIAlign(nn.Module):
    """RoIAlign over the feature pyramid, float32 out whatever the features' precision.

    With `aligned`, sampling is exact to the sub-pixel (Wu et al. 2019, detectron2's `aligned=True`); without, it is
    torchvision's, which reads half a pixel off. Strides are 4, 8, 16 …; torchvision's `MultiScaleRoIAlign` would guess
    them from the first images it sees, wrongly where padding to whole strides makes up much of a small image.
    """

    def __init__(self, levels: int, output_size: int, canonical_px: int, aligned: bool) -> None:
        super().__init__()
        self.output_size, self.aligned = output_size, aligned
        self.strides = [4 << level for level in range(levels)]
        self.map_levels = LevelMapper(2, levels + 1, canonical_px)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Features of all boxes, float32 [boxes of all images, C, output_size, output_size]; the shapes go unused."""
        rois = torch.cat([F.pad(b, (1, 0), value=i) for i, b in enumerate(boxes)])
        levels = self.map_levels(boxes)
        size = self.output_size
        out = torch.zeros((len(rois), x["0"].shape[1], size, size), device=rois.device)
        for level, stride in enumerate(self.strides):
            index = torch.where(levels == level)[0]
            feature = x[str(level)].float()
            pooled = roi_align(feature, rois[index], size, 1 / stride, sampling_ratio=2, aligned=self.aligned)
            out = out.index_put((index,), pooled)
        return out
