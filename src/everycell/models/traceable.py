"""The network as one graph of tensor operations, which runtimes other than torch can run."""

from __future__ import annotations

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import nms, remove_small_boxes, roi_align

from everycell.models.backbones import fold_norms
from everycell.models.mask_rcnn import STRIDE, CellMaskRCNN
from everycell.models.roi_align import SAMPLES, PyramidRoIAlign

_BELIEVED = 0.0  # objectness logit above which the network takes an anchor for a cell
_MIN_CELL_PX = 1e-2  # torchvision's


class TraceableMaskRCNN(nn.Module):
    """`CellMaskRCNN` in evaluation mode, for one image of any size, without a decision in Python.

    A trace of it is right for other images than the traced one. Proposals that the network believes in are kept beyond
    all limits, as `everycell predict` keeps them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: CellMaskRCNN) -> None:
        super().__init__()
        network = copy.deepcopy(network).eval().requires_grad_(False)
        fold_norms(network)
        _replace_pools(network)
        self.settings, self.num_classes = network.settings, network.num_classes
        self.backbone, self.rpn, self.heads = network.backbone, network.rpn, network.roi_heads
        self.register_buffer("mean", network.mean)
        self.register_buffer("std", network.std)

    def forward(self, image: Tensor, score_thresh: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Find cells.

        Args:
            image: float32 [3, H, W] in [0, 1], at network scale.
            score_thresh: float32 [], least score.

        Returns:
            Best score first: boxes float32 [N, 4], xyxy, px of the image; scores float32 [N]; labels int64 [N];
            mask probabilities inside the boxes float32 [N, 1, M, M].
        """
        _, height, width = image.shape
        batch = F.pad((image[None] - self.mean) / self.std, (0, -width % STRIDE, 0, -height % STRIDE))
        features = self.backbone(batch)
        limits = torch._shape_as_tensor(image)[1:].flip(0).repeat(2).float()  # not constants, as height and width are
        proposals = self._propose(batch, features, limits)
        boxes, scores, labels = self._classify(features, proposals, limits, score_thresh)
        if self.heads.class_head is not None:
            labels = self.heads.class_head(self.heads.class_head.see(features, [boxes], [])).argmax(dim=1) + 1
        logits = self.heads.mask_head(self.heads.mask_roi_pool(features, [boxes], []))
        for layer in self.heads.mask_predictor:  # its own, faster way is not one that all runtimes know
            logits = layer(logits)
        shape = labels.clamp(max=1) if self.heads.class_agnostic else labels
        own = torch.arange(logits.shape[0]) * logits.shape[1] + shape
        return boxes, scores, labels, logits.flatten(0, 1)[own, None].sigmoid()

    def _propose(self, batch: Tensor, features: dict[str, Tensor], limits: Tensor) -> Tensor:
        """Boxes that may hold a cell, float32 [P, 4], best first."""
        maps, limit = list(features.values()), self.settings.proposals_test
        levels, deltas = self.rpn.head(maps)
        sizes = [level[0].numel() for level in levels]
        [anchors] = self.rpn.anchor_generator(ImageList(batch, [(0, 0)]), maps)
        logits, deltas = concat_box_prediction_layers(levels, deltas)
        boxes = self.rpn.box_coder.decode_single(deltas, anchors)
        of_levels = zip(logits[:, 0].split(sizes), boxes.split(sizes), strict=True)
        believed = torch.stack([(level > _BELIEVED).sum() for level in logits[:, 0].split(sizes)]).max()
        kept = [self._best_of_level(*level, believed.clamp(min=limit), limits) for level in of_levels]
        boxes, logits = (torch.cat(parts) for parts in zip(*kept, strict=True))
        logits, order = logits.sort(descending=True)
        return boxes[order[: (logits > _BELIEVED).sum().clamp(min=limit)]]

    def _best_of_level(self, logits: Tensor, boxes: Tensor, limit: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
        count = torch.minimum(limit, torch._shape_as_tensor(logits)[0])
        logits, index = logits.topk(cast(int, count))  # as int() it would be a constant
        boxes = _clip(boxes[index], limits)
        keep = remove_small_boxes(boxes, self.rpn.min_size)
        keep = keep[logits[keep].sigmoid() >= self.rpn.score_thresh]
        keep = keep[nms(boxes[keep], logits[keep], self.rpn.nms_thresh)]
        return boxes[keep], logits[keep]

    def _classify(
        self, features: dict[str, Tensor], proposals: Tensor, limits: Tensor, score_thresh: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels, best score first."""
        heads = self.heads
        logits, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, [proposals], [])))
        shares = logits.softmax(dim=1)
        decoded = heads.box_coder.decode_single(deltas, proposals).view(-1, deltas.shape[1] // 4, 4)[:, 1:]
        columns = 1 if heads.class_agnostic else self.num_classes  # a candidate each, row by row
        scores = 1 - shares[:, 0] if heads.class_agnostic else shares[:, 1:].flatten()
        boxes = _clip(decoded.flatten(0, 1), limits)
        keep = remove_small_boxes(boxes, _MIN_CELL_PX)
        keep = keep[(scores[keep] > heads.score_thresh) & (scores[keep] >= score_thresh)]
        # NMS of each class alone: they are moved out of each other's reach.
        apart = boxes[keep] + ((keep % columns) * (limits.max() + 1))[:, None]
        keep = keep[nms(apart, scores[keep], heads.nms_thresh)[: heads.detections_per_img]]
        classes = shares[keep, 1:].argmax(dim=1) if heads.class_agnostic else keep % columns
        return boxes[keep], scores[keep], classes + 1


def _clip(boxes: Tensor, limits: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), limits)


class _RoIAlign(nn.Module):
    """What a `PyramidRoIAlign` gives for one image, by an operation that runtimes know."""

    def __init__(self, pool: PyramidRoIAlign) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Features float32 [P, C, size, size] of the only image's boxes; the shapes go unused."""
        pool, levels, rois = self.pool, self.pool.map_levels(boxes), F.pad(boxes[0], (1, 0))
        index = [torch.where(levels == level)[0] for level in range(len(pool.strides))]
        parts = [
            roi_align(x[str(level)], rois[index[level]], pool.output_size, 1 / stride, SAMPLES, pool.aligned)
            for level, stride in enumerate(pool.strides)
        ]
        return torch.cat(parts)[torch.cat(index).argsort()]


def _replace_pools(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, PyramidRoIAlign):
                setattr(parent, name, _RoIAlign(child))
