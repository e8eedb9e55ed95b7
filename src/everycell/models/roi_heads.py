"""Mask targets from label layers, and heads that never paste a full-image mask."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_inference
from torchvision.ops import clip_boxes_to_image, nms, remove_small_boxes

from everycell.models.class_head import ContextClassHead

Target = dict[str, Tensor]
Detections = dict[str, Tensor]

_BOXES_AT_A_TIME = 1024  # what the heads make of each on the way is large, and more so of each mask
_MASKS_AT_A_TIME = 32  # so that features are still in the cache when the next layer reads them
_ROIS_STEP = 32
_TARGETS_AT_A_TIME = 16


def mask_targets(
    layers: Tensor, layer_of: Tensor, values: Tensor, boxes: Tensor, size: int, *, aligned: bool
) -> Tensor:
    """Truth masks of boxes, sampled straight from label layers.

    Equals `torchvision.ops.roi_align` (adaptive sampling) of each cell's own full-image mask, without making one.

    Args:
        layers: int32 [L, H, W], label layers; a cell is the pixels of one value in one layer.
        layer_of: int64 [P], layer of each box's cell.
        values: int32 [P], value of each box's cell.
        boxes: float32 [P, 4], xyxy, px of the layers.
        size: side of the target, M.
        aligned: pixel centres at half-integers, as `roi_align(aligned=True)`.

    Returns:
        float32 [P, M, M] in [0, 1].
    """
    targets = boxes.new_zeros((len(boxes), size, size))
    if not len(boxes):
        return targets
    shifted = boxes - 0.5 if aligned else boxes
    extents = shifted[:, 2:] - shifted[:, :2]
    if not aligned:
        extents = extents.clamp(min=1.0)
    for index in torch.split(extents.amax(1).argsort(), _TARGETS_AT_A_TIME):  # alike in size, for one window size
        low, extent = shifted[index], extents[index]
        columns, along_x = _axis_shares(low[:, 0], extent[:, 0], size, layers.shape[2])
        rows, along_y = _axis_shares(low[:, 1], extent[:, 1], size, layers.shape[1])
        window = layers[layer_of[index, None, None], rows[:, :, None], columns[:, None, :]]
        inside = (window == values[index, None, None]).float()
        with torch.autocast(boxes.device.type, enabled=False):
            targets[index] = along_y @ inside @ along_x.mT
    return targets


def _axis_shares(low: Tensor, extent: Tensor, size: int, limit: int) -> tuple[Tensor, Tensor]:
    """Pixels [P, n] around each box along one axis, and the share [P, size, n] of each in each output cell.

    An output cell is the mean of as many samples as it is long in px, each shared by its two neighbour pixels.
    """
    counts = torch.ceil(extent / size).clamp(min=1)[:, None, None]
    steps = torch.arange(int(counts.max()), device=low.device)
    places = (torch.arange(size, device=low.device)[:, None] + (steps + 0.5) / counts) / size
    position = low[:, None, None] + extent[:, None, None] * places
    counted = (steps < counts) & (position >= -1) & (position <= limit)
    position = position.clamp(0, limit - 1)
    first = position[:, :1, :1].floor()
    length = int((position - first).max()) + 2
    pixels = first + torch.arange(length, device=low.device)
    hats = (1 - (position[..., None] - pixels[:, :, None]).abs()).clamp(min=0)
    shares = (hats * (counted / counts)[..., None]).sum(2)
    return pixels[:, 0].long().clamp(max=limit - 1), shares


def mask_loss(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Mean per-pixel binary cross-entropy of each box's own class (He et al. 2017).

    Args:
        logits: [P, classes, M, M]; [P, 2, M, M] when all classes share the second.
        labels: int64 [P], class of each box.
        targets: float32 [P, M, M].
    """
    if not len(logits):
        return logits.sum() * 0.0
    own = logits[torch.arange(len(labels), device=labels.device), labels.clamp(max=logits.shape[1] - 1)]
    return F.binary_cross_entropy_with_logits(own, targets)


def _parts(boxes: list[Tensor], size: int) -> Iterator[list[Tensor]]:
    """Boxes of all images in their order, at most `size` of one image at a time and none of the others."""
    for i, of_image in enumerate(boxes):
        for first in range(0, max(1, len(of_image)), size):
            yield [of_image[first : first + size] if i == j else b[:0] for j, b in enumerate(boxes)]


class CellRoIHeads(RoIHeads):
    """torchvision's RoI heads with masks left at the head's resolution and truth taken from label layers.

    A target holds `boxes` float32 [N, 4], `labels` int64 [N], `layers` int32 [L, H, W], `layer_of` int64 [N] and
    `values` int32 [N]. A detection holds `boxes`, `scores`, `labels` and `masks`, probabilities [N, 1, M, M].

    Attributes:
        aligned: see `mask_targets`.
        class_agnostic: the predictors draw one box and one mask for all classes.
        class_head: names the classes; the box predictor does when None.
        mask_batch: boxes of an image whose masks are learnt from at most, None for all that hold a cell.
    """

    aligned = False
    class_agnostic = False
    mask_batch: int | None = None
    class_head: ContextClassHead | None

    def check_targets(self, targets: list[Target] | None) -> None:
        """Targets carry label layers in place of torchvision's N × H × W masks."""
        assert targets is not None and all("layers" in target for target in targets)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[Detections], dict[str, Tensor]]:
        """Detections of each image without `targets`, the three loss terms with them."""
        if targets is not None:
            return [], self._losses(features, proposals, image_shapes, targets)
        parts = [self._classify(features, part, image_shapes) for part in _parts(proposals, _BOXES_AT_A_TIME)]
        logits, deltas = (torch.cat(of_parts) for of_parts in zip(*parts, strict=True))
        boxes, scores, labels = self.postprocess_detections(logits, deltas, proposals, image_shapes)
        if self.class_head is not None:
            named = torch.cat([self._name(features, part, image_shapes) for part in _parts(boxes, _BOXES_AT_A_TIME)])
            labels = list(torch.split(named.argmax(dim=1) + 1, [len(of_image) for of_image in boxes]))
        shapes = [label.clamp(max=1) for label in labels] if self.class_agnostic else labels
        drawn = torch.cat([self._segment(features, part, image_shapes) for part in _parts(boxes, _MASKS_AT_A_TIME)])
        masks = maskrcnn_inference(drawn, shapes)
        return [
            {"boxes": b, "scores": s, "labels": c, "masks": m}
            for b, s, c, m in zip(boxes, scores, labels, masks, strict=True)
        ], {}

    def _classify(
        self, features: dict[str, Tensor], boxes: list[Tensor], shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        pooled = self._padded(self.box_roi_pool(features, boxes, shapes))
        count = sum(len(of_image) for of_image in boxes)
        logits, deltas = (out[:count] for out in self.box_predictor(self.box_head(pooled)))
        if self.class_agnostic:
            deltas = deltas[:, 4:].repeat(1, logits.shape[1])
        return logits.float(), deltas.float()

    def postprocess_detections(
        self, class_logits: Tensor, box_regression: Tensor, proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Boxes, scores and labels of each image, best score first.

        By torchvision's rule, or with `class_agnostic`: a box has its best class, its score is the probability that it
        holds a cell of any class, and NMS ignores classes.
        """
        if not self.class_agnostic:
            found: tuple[list[Tensor], list[Tensor], list[Tensor]] = super().postprocess_detections(
                class_logits, box_regression, proposals, image_shapes
            )
            return found
        decoded = self.box_coder.decode(box_regression[:, :4], proposals)[:, 0]
        cell, classes = 1 - class_logits.softmax(dim=1)[:, 0], class_logits[:, 1:].argmax(dim=1)
        counts = [len(boxes) for boxes in proposals]
        parts = (torch.split(of_box, counts) for of_box in (decoded, cell, classes + 1))
        kept = []
        for boxes, scores, labels, shape in zip(*parts, image_shapes, strict=True):
            boxes = clip_boxes_to_image(boxes, shape)
            keep = torch.where(scores > self.score_thresh)[0]
            keep = keep[remove_small_boxes(boxes[keep], min_size=1e-2)]
            keep = keep[nms(boxes[keep], scores[keep], self.nms_thresh)[: self.detections_per_img]]
            kept.append((boxes[keep], scores[keep], labels[keep]))
        boxes, scores, labels = zip(*kept, strict=True)
        return list(boxes), list(scores), list(labels)

    def _name(self, features: dict[str, Tensor], boxes: list[Tensor], shapes: list[tuple[int, int]]) -> Tensor:
        assert self.class_head is not None
        seen = self._padded(self.class_head.see(features, boxes, shapes))
        named: Tensor = self.class_head(seen)[: sum(len(of_image) for of_image in boxes)]
        return named

    def _segment(self, features: dict[str, Tensor], boxes: list[Tensor], shapes: list[tuple[int, int]]) -> Tensor:
        pooled = self._padded(self.mask_roi_pool(features, boxes, shapes))
        drawn: Tensor = self.mask_predictor(self.mask_head(pooled))[: sum(len(of_image) for of_image in boxes)]
        return drawn.float()

    def _padded(self, pooled: Tensor) -> Tensor:
        """In prediction, zeros up to a whole number of 32 RoIs: oneDNN keeps kernels for every number it meets."""
        return pooled if self.training else F.pad(pooled, (0, 0) * 3 + (0, -len(pooled) % _ROIS_STEP))

    def _losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        proposals, matched, labels, regression = self.select_training_samples(proposals, targets)
        logits, deltas = self._classify(features, proposals, image_shapes)
        if len(logits):
            cells = labels if self.class_head is None else [label.clamp(max=1) for label in labels]
            loss_classifier, loss_box = fastrcnn_loss(logits, deltas, cells, regression)
        else:  # neither a proposal nor a cell in any image: torchvision's mean over nothing would be NaN
            loss_classifier, loss_box = logits.sum() * 0.0, deltas.sum() * 0.0
        positive = [torch.where(label > 0)[0] for label in labels]
        if self.class_head is not None:
            named, classes = self._name(features, _rows(proposals, positive), image_shapes), _rows(labels, positive)
            loss_classifier += F.cross_entropy(named, torch.cat(classes) - 1) if len(named) else named.sum() * 0.0
        if self.mask_batch is not None:
            positive = [index[torch.randperm(len(index))[: self.mask_batch].to(index.device)] for index in positive]
        boxes = _rows(proposals, positive)
        mask_logits = self._segment(features, boxes, image_shapes)
        truth = [
            mask_targets(
                t["layers"], t["layer_of"][m[i]], t["values"][m[i]], box, mask_logits.shape[-1], aligned=self.aligned
            )
            for t, m, i, box in zip(targets, matched, positive, boxes, strict=True)
            if len(i)
        ]
        chosen = torch.cat(_rows(labels, positive))
        loss_mask = mask_loss(mask_logits, chosen, torch.cat(truth) if truth else mask_logits[:, 0])
        return {"loss_classifier": loss_classifier, "loss_box_reg": loss_box, "loss_mask": loss_mask}


def _rows(of_images: list[Tensor], index: list[Tensor]) -> list[Tensor]:
    return [rows[i] for rows, i in zip(of_images, index, strict=True)]
