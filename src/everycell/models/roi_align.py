"""RoIAlign over the feature pyramid (He et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from torch import Tensor, nn
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

SAMPLES = 2  # along each side of an output cell, as torchvision's Mask R-CNN takes them


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
        levels, size = self.map_levels(boxes), self.output_size
        maps = [x[str(level)] for level in range(len(self.strides))]
        scales = [1 / stride for stride in self.strides]
        if rois.is_cpu:
            return gather_roi_align(maps, rois, levels, size, scales, aligned=self.aligned)
        out = torch.zeros((len(rois), maps[0].shape[1], size, size), device=rois.device)
        for level, (feature, scale) in enumerate(zip(maps, scales, strict=True)):
            index = torch.where(levels == level)[0]
            pooled = roi_align(feature.float(), rois[index], size, scale, SAMPLES, aligned=self.aligned)
            out = out.index_put((index,), pooled)
        return out


def gather_roi_align(
    maps: Sequence[Tensor], rois: Tensor, levels: Tensor, size: int, scales: Sequence[float], *, aligned: bool
) -> Tensor:
    """`torchvision.ops.roi_align` with two samples a side, as one weighted gather of whole channel vectors.

    Each output cell is a weighted sum of 16 map pixels: four bilinear samples of four pixels. On a CPU with
    channels-last maps this reads memory in order, on all cores, and is over ten times faster than sampling channel by
    channel. The boxes get no gradient, as in torchvision.

    Args:
        maps: float [B, C, H, W] of each level.
        rois: float32 [P, 5], image index and xyxy in image px.
        levels: int64 [P], the map that each RoI reads.
        size: cells of the output along each side.
        scales: map px per image px of each level.
        aligned: as torchvision's.

    Returns:
        float32 [P, C, size, size], channels last in memory.
    """
    channels, places = maps[0].shape[1], [len(m) * m.shape[2] * m.shape[3] for m in maps]
    heights, widths = (torch.tensor([m.shape[axis] for m in maps])[levels] for axis in (2, 3))
    boxes = rois[:, 1:] * torch.tensor(scales)[levels, None] - (0.5 if aligned else 0.0)
    columns, along_x = _axis_taps(boxes[:, 0], boxes[:, 2], size, widths, aligned=aligned)
    rows, along_y = _axis_taps(boxes[:, 1], boxes[:, 3], size, heights, aligned=aligned)
    first = torch.tensor([0, *accumulate(places)])[levels] + rois[:, 0].long() * heights * widths
    rows = first[:, None, None] + rows * widths[:, None, None]
    pixels = rows[:, :, None, :, None] + columns[:, None, :, None, :]
    weights = along_y[:, :, None, :, None] * along_x[:, None, :, None, :]
    taps = 4 * SAMPLES**2
    table = torch.cat([m.permute(0, 2, 3, 1).reshape(-1, channels) for m in maps]).float()
    cells = _WeightedGather.apply(table, pixels.reshape(-1, taps), weights.reshape(-1, taps))
    return cells.view(len(rois), size, size, channels).permute(0, 3, 1, 2)


class _WeightedGather(torch.autograd.Function):
    """Weighted sums of a table's rows; its gradient, the same the other way round, is again a gather on all cores."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        """Sum `weights` [K, T] times the rows [K, T] of `table` [M, C] over T, to [K, C]."""
        ctx.save_for_backward(rows, weights)
        ctx.table_rows = len(table)
        return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Each row of the table collects the gradients of the sums it went into."""
        rows, weights = ctx.saved_tensors
        bags, taps = rows.shape
        ends = np.arange(0, bags * taps + 1, taps)
        sums = csr_array((weights.numpy().ravel(), rows.numpy().ravel(), ends), (bags, ctx.table_rows))
        turned = sums.tocsc()
        shares, into, starts = (torch.from_numpy(part) for part in (turned.data, turned.indices, turned.indptr))
        gathered = F.embedding_bag(into, grad.contiguous(), starts[:-1], per_sample_weights=shares, mode="sum")
        return gathered, None, None


def _axis_taps(low: Tensor, high: Tensor, size: int, lengths: Tensor, *, aligned: bool) -> tuple[Tensor, Tensor]:
    """Pixels that each output cell reads along one axis, and their weights, both [P, size, 2 * samples]."""
    extent = high - low if aligned else (high - low).clamp(min=1.0)
    steps = (torch.arange(size * SAMPLES) + 0.5) / (size * SAMPLES)
    position = low[:, None] + extent[:, None] * steps
    inside = (position >= -1) & (position <= lengths[:, None])
    last = lengths[:, None] - 1
    position = position.clamp(min=0).minimum(last)
    lower = position.long()
    share = position - lower
    pixels = torch.stack([lower, (lower + 1).minimum(last)], -1)
    weights = torch.stack([1 - share, share], -1) * inside[..., None] / SAMPLES
    shape = (len(low), size, 2 * SAMPLES)
    return pixels.view(shape), weights.view(shape)
