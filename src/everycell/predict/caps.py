"""What a network leaves out: never a proposal that it believes in, always detections that nobody asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork

# Of the others, which it takes for background, there are always more than any limit; they lead to no cells.
_BELIEVED = 0.5


@contextmanager
def keep_believed(rpn: RegionProposalNetwork) -> Iterator[None]:
    """Let a network in evaluation mode keep all proposals of objectness above 0.5, whatever its limits.

    torchvision cuts twice: the anchors of each pyramid level before NMS, and all proposals after it. Here both limits
    give way where they would cut a proposal that the network believes in. One thread at a time.
    """
    choose = rpn.filter_proposals

    def filter_proposals(
        proposals: Tensor, objectness: Tensor, image_shapes: list[tuple[int, int]], per_level: list[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        levels = torch.split(objectness.reshape(len(image_shapes), -1), per_level, dim=1)
        believed = max(int((level > 0).sum(dim=1).max()) for level in levels)  # of logits
        before, after = rpn.pre_nms_top_n(), rpn.post_nms_top_n()
        rpn._pre_nms_top_n["testing"], rpn._post_nms_top_n["testing"] = max(before, believed), sum(per_level)
        try:
            boxes, scores = choose(proposals, objectness, image_shapes, per_level)
        finally:
            rpn._pre_nms_top_n["testing"], rpn._post_nms_top_n["testing"] = before, after
        kept = [max(after, int((of_image > _BELIEVED).sum())) for of_image in scores]
        return [b[:k] for b, k in zip(boxes, kept, strict=True)], [s[:k] for s, k in zip(scores, kept, strict=True)]

    rpn.filter_proposals = filter_proposals
    try:
        yield
    finally:
        del rpn.filter_proposals


@contextmanager
def leave_out_below(heads: RoIHeads, score: float) -> Iterator[None]:
    """Let heads in evaluation mode give only detections that score at least `score`, and draw no masks of others.

    The same remain as when the others are left out afterwards: NMS lets no box be suppressed by one that scores less.
    """
    before = heads.score_thresh
    # torchvision keeps what scores more than its threshold.
    heads.score_thresh = max(before, float(np.nextafter(np.float32(score), np.float32(-1))))
    try:
        yield
    finally:
        heads.score_thresh = before
