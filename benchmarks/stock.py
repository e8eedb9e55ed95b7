"""Torchvision's own Mask R-CNN with the weights of an everycell model, from a file to run-length codes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from unittest import mock

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, transform
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign, boxes, roi_align

from everycell.config import ModelSettings
from everycell.models import network_zoom
from everycell.models.checkpoint import find_model, load_network
from everycell.models.mask_heads import build_mask_head
from everycell.predict.masks import masks_to_crops
from everycell.structures import Instances, MaskCrops
from everycell.structures.rle import decode
from everycell.transforms import input_range, stretch
from replay import record
from timing import Stages

_PASS_PX = 1536**2  # everycell's limits hold for each of its tiles, of this size at network scale
_FLOAT_BYTES = 4


class AlignedRoIAlign(MultiScaleRoIAlign):
    """Torchvision's pooling, exact to the sub-pixel as weights trained with everycell's `aligned` need it."""

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Features [N, C, size, size] of the boxes of one image."""
        if self.map_levels is None:
            super().forward(x, [b[:1] for b in boxes], image_shapes)  # which finds scales and levels
        levels = self.map_levels(boxes)
        out = torch.zeros((len(boxes[0]), next(iter(x.values())).shape[1], *self.output_size))
        for level, (name, scale) in enumerate(zip(self.featmap_names, self.scales, strict=True)):
            index = torch.where(levels == level)[0]
            out[index] = roi_align(x[name], [boxes[0][index]], self.output_size, scale, self.sampling_ratio, True)
        return out


def stock_network(name: str | Path, size: tuple[int, int]) -> MaskRCNN:
    """Torchvision's Mask R-CNN with the weights of a model, float32, made ready for images of `size` (height, width).

    It resizes as the model does. Its limits on proposals and detections are those of the model times the passes that
    everycell needs for the image, so that it may find as many cells.
    """
    network, card = load_network(find_model(name))
    settings, classes = card.settings, len(card.class_names) + 1
    mask_head, mask_predictor = build_mask_head(settings, classes)
    if settings.mask_head == "standard":
        mask_predictor = MaskRCNNPredictor(settings.mask_channels, settings.mask_channels, classes)
    zoom = network_zoom(settings, size)
    passes = ceil(size[0] * size[1] * zoom**2 / _PASS_PX)
    stock = MaskRCNN(
        network.backbone,
        min_size=settings.resize_short_px or round(min(size) * zoom),
        max_size=settings.resize_max_px if settings.resize_short_px else round(max(size) * zoom),
        rpn_anchor_generator=_anchors(settings),
        rpn_head=RPNHead(settings.fpn_channels, len(settings.anchor_ratios)),
        rpn_pre_nms_top_n_test=settings.proposals_test * passes,
        rpn_post_nms_top_n_test=settings.proposals_test * passes,
        rpn_nms_thresh=settings.rpn_nms_thresh,
        rpn_score_thresh=settings.rpn_score_thresh,
        box_roi_pool=_pool(settings, 7),
        box_head=TwoMLPHead(settings.fpn_channels * 49, settings.box_head_channels),
        box_predictor=FastRCNNPredictor(settings.box_head_channels, classes),
        box_score_thresh=card.score_thresh,
        box_nms_thresh=settings.nms_thresh,
        box_detections_per_img=settings.detections_per_image * passes,
        mask_roi_pool=_pool(settings, 14),
        mask_head=mask_head,
        mask_predictor=mask_predictor,
    )
    stock.load_state_dict(network.state_dict())
    return stock.to(memory_format=torch.contiguous_format).eval()


def _anchors(settings: ModelSettings) -> AnchorGenerator:
    sizes = tuple((size,) for size in settings.anchor_sizes)
    return AnchorGenerator(sizes, (settings.anchor_ratios,) * len(sizes))


def _pool(settings: ModelSettings, size: int) -> nn.Module:
    levels = [str(level) for level in range(settings.backbone_layers)]
    kind = AlignedRoIAlign if settings.aligned else MultiScaleRoIAlign
    return kind(levels, size, 2, canonical_scale=settings.canonical_px)


@dataclass(frozen=True)
class StockResult:
    """What torchvision found in one image.

    Attributes:
        boxes: float32 [N, 4], xyxy, px of the image.
        scores: float32 [N].
        labels: int64 [N].
        masks: float32 [N, M, M], probabilities before pasting.
        codes: of the pasted masks, compressed.
        size: (height, width).
        parts: into how many parts of the cells pasting was cut for lack of memory; 1 is torchvision's way.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.float32]
    codes: list[str]
    size: tuple[int, int]
    parts: int

    def pasted(self) -> Instances:
        """The cells as torchvision pastes them, by rounding their boxes to whole pixels."""
        cells = [decode(code, self.size) for code in self.codes]
        origins = np.array([origin for origin, _ in cells], np.int64).reshape(-1, 2)
        return self._instances(MaskCrops.from_crops(origins, [crop for _, crop in cells]))

    def resampled(self, *, aligned: bool) -> Instances:
        """The same probabilities, brought into the image as everycell does it."""
        return self._instances(masks_to_crops(self.masks, self.boxes, self.size, aligned=aligned))

    def _instances(self, masks: MaskCrops) -> Instances:
        return Instances(self.boxes, self.scores, self.labels, masks, self.size)


class Stock:
    """Torchvision from an image file to a COCO results file, its stages watched."""

    def __init__(self, model: Path, memory_gb: float, drawn: Path | None = None) -> None:
        """Load the card; `drawn` is where proposals and boxes are recorded."""
        self.model, self.memory_gb, self.drawn, self.stages = model, memory_gb, drawn, Stages()
        self.card = load_network(model)[1]
        self._size: tuple[int, int] | None = None
        self.stages.watch(boxes, "batched_nms", "NMS")

    def prepare(self, size: tuple[int, int]) -> None:
        """Build the network for images of `size` (height, width)."""
        if size == self._size:
            return
        self._size, self.network = size, stock_network(self.model, size)
        heads = self.network.roi_heads
        self.score_thresh = heads.score_thresh
        for owner, stage in (
            (self.network.transform, "resize"),
            (self.network.backbone, "trunk"),
            (self.network.rpn, "proposals"),
            (heads, "box head"),
            (heads.box_roi_pool, "box RoIAlign"),
            (heads.mask_roi_pool, "mask RoIAlign"),
            (heads.mask_head, "mask head"),
            (heads.mask_predictor, "mask head"),
        ):
            self.stages.watch(owner, "forward", stage)
        if self.drawn is not None:
            record(self.network, self.drawn)

    def run(self, path: Path, out: Path, thresh: float | None = None) -> StockResult:
        """Find the cells of a TIFF and write their codes; scores above `thresh`, the model's own when None."""
        stage = self.stages.stage
        with stage("read"):
            pixels = tifffile.imread(path)
        with stage("resize"):
            image = torch.from_numpy(stretch(pixels, input_range(pixels, self.card.settings.normalize)))
        self.network.roi_heads.score_thresh = self.score_thresh if thresh is None else thresh
        # Pasted below instead, so that it can be done in parts where all together would not fit into memory.
        with torch.inference_mode(), mock.patch.object(transform, "paste_masks_in_image", lambda masks, *_: masks):
            [found] = self.network([image.permute(2, 0, 1)])
        size = (pixels.shape[0], pixels.shape[1])
        parts = max(1, ceil(paste_gb(len(found["boxes"]), size) / self.memory_gb))
        codes: list[str] = []
        for index in torch.arange(len(found["boxes"])).chunk(parts):
            with stage("masks"):
                dense = paste_masks_in_image(found["masks"][index], found["boxes"][index], size)[:, 0] > 0.5
            with stage("encoding"):
                columns = np.asfortranarray(dense.numpy().transpose(1, 2, 0).view(np.uint8))
                codes += [code["counts"].decode("ascii") for code in coco_mask.encode(columns)]
        result = StockResult(
            *(found[key].numpy() for key in ("boxes", "scores", "labels")),
            masks=found["masks"][:, 0].numpy(),
            codes=codes,
            size=size,
            parts=parts,
        )
        with stage("writing"):
            out.write_text(json.dumps(_entries(result)))
        return result


def paste_gb(n: int, size: tuple[int, int]) -> float:
    """Memory that torchvision needs to paste N masks: one by one, and stacked."""
    return 2 * _FLOAT_BYTES * n * size[0] * size[1] / 1e9


def _entries(result: StockResult) -> list[dict[str, object]]:
    corners = result.boxes.astype(np.float64)
    xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
    columns = (result.labels.tolist(), xywh, result.scores.tolist(), result.codes)
    return [
        {
            "image_id": 1,
            "category_id": label,
            "bbox": box,
            "score": score,
            "segmentation": {"size": result.size, "counts": code},
        }
        for label, box, score, code in zip(*columns, strict=True)
    ]
