"""The network: Mask R-CNN (He et al. 2017) assembled from torchvision's parts by `ModelSettings`.

Images come in at network scale: nothing here resizes. Masks come out at the head's resolution: nothing here pastes.
Parameter names are torchvision's, so weights move freely between this network and `torchvision.models.detection`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList

from everycell.config import ModelSettings
from everycell.errors import ConfigError
from everycell.models.backbones import build_backbone
from everycell.models.class_head import ContextClassHead
from everycell.models.mask_heads import build_mask_head
from everycell.models.roi_align import PyramidRoIAlign
from everycell.models.roi_heads import CellRoIHeads, Detections, Target
from everycell.models.rpn import CellRPN, Float32RPNHead, GridAnchors

STRIDE = 32  # images are padded to a multiple of this
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class CellMaskRCNN(nn.Module):
    """Mask R-CNN for `num_classes` cell classes (background not counted)."""

    mean: Tensor
    std: Tensor

    def __init__(self, settings: ModelSettings, num_classes: int) -> None:
        super().__init__()
        if len(settings.anchor_sizes) != settings.levels():
            raise ConfigError(
                f"anchor_sizes must hold one size for each of {settings.levels()} pyramid levels, "
                f"got {len(settings.anchor_sizes)}"
            )
        self.settings = settings
        self.num_classes = num_classes
        self.backbone = build_backbone(settings)
        self.rpn = build_rpn(settings)
        self.roi_heads = _build_roi_heads(settings, num_classes + 1)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(
        self, images: list[Tensor], targets: list[Target] | None = None
    ) -> tuple[list[Detections], dict[str, Tensor]]:
        """Find cells, or compare with the truth.

        Args:
            images: float32 [3, H, W] in [0, 1] each, at network scale; sizes may differ.
            targets: see `CellRoIHeads`; boxes in px of the images. With them the losses are returned, in training mode
                and in evaluation mode alike.

        Returns:
            (detections, losses): one record an image without targets, five loss terms with them.
        """
        shapes = [(image.shape[1], image.shape[2]) for image in images]
        batch = self.batch(images)
        features = self.backbone(batch)
        # torchvision's RPN and heads decide by `training` whether they sample and compare.
        with _mode(self.rpn, targets is not None), _mode(self.roi_heads, targets is not None):
            proposals, rpn_losses = self.rpn(ImageList(batch, shapes), features, targets)
            detections, losses = self.roi_heads(features, proposals, shapes, targets)
        return detections, {**rpn_losses, **losses}

    def batch(self, images: list[Tensor]) -> Tensor:
        """Images float32 [3, H, W] in [0, 1] as the backbone takes them: normalised, and padded to whole strides."""
        height, width = (-(-max(i.shape[d] for i in images) // STRIDE) * STRIDE for d in (1, 2))
        normal = [(image[None] - self.mean) / self.std for image in images]
        padded = [F.pad(image, (0, width - image.shape[3], 0, height - image.shape[2])) for image in normal]
        return torch.cat(padded).contiguous(memory_format=torch.channels_last)


class _mode:  # noqa: N801 - a context manager, read as a verb
    """Set only a module's own `training` flag, not its children's, for a while."""

    def __init__(self, module: nn.Module, training: bool) -> None:
        self.module, self.training = module, training

    def __enter__(self) -> None:
        self.before, self.module.training = self.module.training, self.training

    def __exit__(self, *_: object) -> None:
        self.module.training = self.before


def build_rpn(settings: ModelSettings) -> CellRPN:
    """Region proposal network with the anchors of `settings`."""
    anchors = GridAnchors(
        tuple((size,) for size in settings.anchor_sizes), (settings.anchor_ratios,) * len(settings.anchor_sizes)
    )
    return CellRPN(
        anchors,
        Float32RPNHead(settings.fpn_channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": settings.proposals_train, "testing": settings.proposals_test},
        post_nms_top_n={"training": settings.proposals_train, "testing": settings.proposals_test},
        nms_thresh=settings.rpn_nms_thresh,
        score_thresh=settings.rpn_score_thresh,
    )


def _build_roi_heads(settings: ModelSettings, num_classes: int) -> CellRoIHeads:
    channels = settings.fpn_channels

    def pool(size: int) -> PyramidRoIAlign:
        return PyramidRoIAlign(settings.backbone_layers, size, settings.canonical_px, settings.aligned)

    if settings.class_context and not settings.class_agnostic:
        raise ConfigError(
            "class_context needs class_agnostic = true: boxes and masks that are the same for all classes"
        )
    shapes = 2 if settings.class_agnostic else num_classes  # as in torchvision, background has one too
    mask_head, mask_predictor = build_mask_head(settings, shapes)
    box_head = TwoMLPHead(channels * 7**2, settings.box_head_channels)
    box_predictor = FastRCNNPredictor(settings.box_head_channels, 2 if settings.class_context else num_classes)
    if settings.class_agnostic:
        box_predictor.bbox_pred = nn.Linear(settings.box_head_channels, 4 * shapes)
    heads = CellRoIHeads(
        box_roi_pool=pool(7),
        box_head=box_head,
        box_predictor=box_predictor,
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=settings.box_batch_per_image,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=0.05,
        nms_thresh=settings.nms_thresh,
        detections_per_img=settings.detections_per_image,
        mask_roi_pool=pool(14),
        mask_head=mask_head,
        mask_predictor=mask_predictor,
    )
    heads.class_head = None
    if settings.class_context and num_classes > 2:
        heads.class_head = ContextClassHead(pool(7), channels, num_classes - 1, settings.class_context)
    heads.aligned, heads.class_agnostic = settings.aligned, settings.class_agnostic
    heads.mask_batch = settings.mask_batch_per_image
    return heads
