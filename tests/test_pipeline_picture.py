"""The shapes in docs/images/pipeline.svg are those of the network."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from everycell.models.mask_rcnn import CellMaskRCNN
from everycell.train import PRESETS

SVG = (Path(__file__).parents[1] / "docs" / "images" / "pipeline.svg").read_text(encoding="utf-8")
TEXTS = [re.sub(r"<.*?>", "", text) for text in re.findall(r"<text[^>]*>(.*?)</text>", SVG)]


@cache
def network(preset: str) -> CellMaskRCNN:
    with torch.device("meta"):  # shapes alone
        return CellMaskRCNN(PRESETS[preset].model, 4).eval()


def shown(shape: torch.Size) -> str:
    return " × ".join(map(str, shape))


def test_features_and_anchors():
    net = network("reference")
    image = torch.empty((1, 3, 512, 512), device="meta")
    assert shown(image.shape[1:]) in TEXTS
    body = net.backbone.body(image)
    for name, feature in zip(("C2", "C3", "C4", "C5"), body.values(), strict=True):
        assert f"{name} {shown(feature.shape[1:])}" in TEXTS
    pyramid = net.backbone(image)
    for name, feature in zip(("P2", "P3", "P4", "P5", "P6"), pyramid.values(), strict=True):
        assert f"{name} {shown(feature.shape[1:])}" in TEXTS
    objectness, deltas = net.rpn.head(list(pyramid.values()))
    assert (objectness[0].shape[1], deltas[0].shape[1]) == (3, 12)
    anchors = net.rpn.anchor_generator(
        ImageList(torch.empty(1, 3, 512, 512), [(512, 512)]), [torch.empty(f.shape) for f in pyramid.values()]
    )
    assert f"{len(anchors[0]):,} anchors in all" in TEXTS


def test_heads():
    net = network("reference")
    for pool in ("256 × 7 × 7", "256 × 14 × 14"):
        assert pool in TEXTS
    scores, boxes = net.roi_heads.box_predictor(net.roi_heads.box_head(torch.empty((2, 256, 7, 7), device="meta")))
    assert f"{scores.shape[1]} class scores, {boxes.shape[1] // 4} × 4 box numbers" in TEXTS
    for preset, text in (("reference", "1 × 1: {}"), ("baseline", "baseline: deconv, 1 × 1: {}")):
        heads = network(preset).roi_heads
        masks = heads.mask_predictor(heads.mask_head(torch.empty((2, 256, 14, 14), device="meta")))
        assert text.format(shown(masks.shape[1:])) in TEXTS


@pytest.mark.parametrize("preset", ["baseline", "reference"])
def test_settings_of_the_switches(preset):
    model = PRESETS[preset].model
    sizes = ", ".join(map(str, model.anchor_sizes))
    assert f"{preset}: {sizes} px" in TEXTS
    assert f"{preset}: ResNet-{model.backbone.removeprefix('resnet')}" in TEXTS
    assert f"at most {model.proposals_test} proposals ({model.proposals_train} in training)" in TEXTS
    limits = f"NMS at IoU {model.nms_thresh}, at most {model.detections_per_image}"
    assert any(text.endswith(limits) for text in TEXTS)
