"""The region proposal network (Ren et al. 2015), whose anchors meet the truth without a table of all pairs."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead

Target = dict[str, Tensor]

_BACKGROUND, _BETWEEN = -1, -2


class Float32RPNHead(RPNHead):
    """RPN head whose outputs are float32 under autocast: boxes in bfloat16 would be rounded to whole pixels."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness and box deltas of each level."""
        logits, deltas = super().forward(x)
        return [t.float() for t in logits], [t.float() for t in deltas]


class GridAnchors(AnchorGenerator):
    """torchvision's anchors, which also say where on their grids a box lies.

    Attributes:
        grids: (height, width) of each level, and the strides (y, x), px; of the last images, as `cell_anchors` is.
    """

    grids: list[tuple[list[int], list[Tensor]]]

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """Anchors are float32 whatever the features are: bfloat16 would put those beyond 1024 px up to 4 px aside."""
        super().set_cell_anchors(torch.float32, device)

    def grid_anchors(self, grid_sizes: list[list[int]], strides: list[list[Tensor]]) -> list[Tensor]:
        """Anchors of each level, float32 [height * width * A, 4]: row by row, the A shapes of a place together."""
        self.grids = list(zip(grid_sizes, strides, strict=True))
        anchors: list[Tensor] = super().grid_anchors(grid_sizes, strides)
        return anchors

    def overlapping(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Every pair of a box and an anchor that overlap.

        Args:
            boxes: float32 [N, 4], xyxy, px.

        Returns:
            (boxes, anchors), int64 [pairs] each: rows of `boxes`, and of all levels' anchors in one.
        """
        of_box, of_anchor, first = [], [], 0
        for shapes, ((height, width), strides) in zip(self.cell_anchors, self.grids, strict=True):
            stride = torch.stack([*strides[::-1], *strides[::-1]])
            # Along each axis an anchor's far side lies beyond the box's near one, its near side before the far one.
            reach = (boxes[:, None] - shapes[:, [2, 3, 0, 1]]) / stride
            limit = reach.new_tensor([width, height])
            low = (reach[..., :2].floor() + 1).clamp(min=0).minimum(limit).long()
            high = reach[..., 2:].ceil().clamp(min=0).minimum(limit).long()
            counts = (high - low).clamp(min=0)
            pairs = counts.prod(2).flatten()
            box_and_shape = torch.arange(len(pairs), device=boxes.device).repeat_interleave(pairs)
            place = torch.arange(len(box_and_shape), device=boxes.device)
            place -= (pairs.cumsum(0) - pairs)[box_and_shape]
            columns = counts[..., 0].flatten()[box_and_shape]
            x = low[..., 0].flatten()[box_and_shape] + place % columns
            y = low[..., 1].flatten()[box_and_shape] + place // columns
            of_box.append(box_and_shape // len(shapes))
            of_anchor.append(first + (y * width + x) * len(shapes) + box_and_shape % len(shapes))
            first += height * width * len(shapes)
        return torch.cat(of_box), torch.cat(of_anchor)


class CellRPN(RegionProposalNetwork):
    """torchvision's network with another way to the same matches of anchors and cells.

    A crowded image has a thousand cells and 65,000 anchors: the table of all pairs takes 260 MB, and torchvision
    several times that to make it. Nearly all of them lie apart.
    """

    anchor_generator: GridAnchors

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Of each image: 1 for an anchor of a cell, 0 for background, -1 for neither, and the box of its cell."""
        labels, matched = [], []
        for own, target in zip(anchors, targets, strict=True):
            boxes, matcher = target["boxes"], self.proposal_matcher
            pairs = self.anchor_generator.overlapping(boxes)
            matches = match_anchors(own, boxes, pairs, matcher.high_threshold, matcher.low_threshold)
            labels.append((matches >= 0).float() - (matches == _BETWEEN).float())
            matched.append(boxes[matches.clamp(min=0)] if len(boxes) else torch.zeros_like(own))
        return labels, matched


def match_anchors(anchors: Tensor, boxes: Tensor, pairs: tuple[Tensor, Tensor], high: float, low: float) -> Tensor:
    """The cell of each anchor: the one with the largest IoU, as torchvision's `Matcher` finds it.

    Args:
        anchors: float32 [A, 4], xyxy.
        boxes: float32 [N, 4], xyxy, of the cells; the first of equally good ones counts.
        pairs: (boxes, anchors), int64 [P] each, with all that overlap.
        high: IoU from which an anchor belongs to its cell; the best anchors of a cell belong to theirs anyhow.
        low: IoU under which it is background.

    Returns:
        int64 [A], rows of `boxes`; -1 is background, -2 is between both.
    """
    box, anchor = pairs
    iou = _pair_iou(boxes[box], anchors[anchor])
    best = iou.new_zeros(len(anchors)).scatter_reduce(0, anchor, iou, "amax")
    best_of_box = iou.new_zeros(len(boxes)).scatter_reduce(0, box, iou, "amax")
    is_best = iou == best[anchor]
    cell = box.new_full((len(anchors),), len(boxes))
    cell = cell.scatter_reduce(0, anchor[is_best], box[is_best], "amin")
    matches = torch.where(best >= high, cell, torch.where(best < low, _BACKGROUND, _BETWEEN))
    forced = anchor[(iou == best_of_box[box]) & (iou > 0)]
    matches[forced] = cell[forced]
    return matches


def _pair_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes [P, 4] one by one, rounded as `torchvision.ops.box_iou` rounds it."""
    sides = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    shared = sides[:, 0] * sides[:, 1]
    area_a, area_b = ((t[:, 2] - t[:, 0]) * (t[:, 3] - t[:, 1]) for t in (a, b))
    return shared / (area_a + area_b - shared)
