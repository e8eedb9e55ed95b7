"""Where the network's first stage loses cells, from the anchors to what the heads get to see."""

from __future__ import annotations

import copy
import sys

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from everycell.models import CellMaskRCNN
from everycell.models.anchors import COVERED, TrueBoxes, best_ious
from everycell.predict.predictor import Model
from everycell.structures import Image
from everycell.transforms import input_range, stretch, zoom_image

STEPS = ("anchors", "candidates", "after_nms", "proposals")
_NO_NMS = 2.0  # no IoU is above it


def trace_cells(model: Model, image: Image, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which true cells a box of IoU ≥ 0.5 still covers after each of `STEPS`.

    The image is scaled, stretched and cut into tiles as for prediction; a cell belongs to the tile whose core holds the
    centre of its box.

    Args:
        model: whose anchors and proposals.
        image: what `boxes` lie in.
        boxes: of the true cells, float64 [N, 4], xyxy, px of the image.

    Returns:
        bool [len(STEPS), N].
    """
    settings = model.card.settings
    factor, _ = model.zoom(image, None)
    limits = input_range(image.pixels, settings.normalize)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    covered = np.zeros((len(STEPS), len(boxes)), np.bool_)
    for tile in model.tiling(image.size, factor).tiles:
        index = np.flatnonzero([tile.owns(x, y) for x, y in centres.tolist()])
        x0, y0, x1, y1 = tile.window
        truth = TrueBoxes((y1 - y0, x1 - x0), boxes[index] - (x0, y0, x0, y0)).zoomed(factor)
        covered[0, index] = best_ious(truth, settings.anchor_sizes, settings.anchor_ratios) >= COVERED
        pixels = torch.from_numpy(stretch(image.pixels[y0:y1, x0:x1], limits)).permute(2, 0, 1)
        with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16, enabled=model.bf16):
            found = propose(model.network, zoom_image(pixels, factor).to(model.device))
        for step, proposals in enumerate(found, start=1):
            ious = box_iou(torch.from_numpy(truth.boxes).float(), proposals.cpu())
            covered[step, index] = (ious >= COVERED).any(dim=1).numpy()
    return covered


def propose(network: CellMaskRCNN, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of one image after each step of the first stage, best score first.

    Args:
        network: in evaluation mode.
        image: float32 [3, H, W] in [0, 1], at network scale.

    Returns:
        float32 [P, 4] each, xyxy, px of the image: the candidates, at most `proposals_test` of a pyramid level, that
        score at least `rpn_score_thresh`; those that survive NMS; and the best `proposals_test` of these, which the
        heads see.
    """
    settings = network.settings
    batch = network.batch([image])
    features = network.backbone(batch)
    found = []
    for nms_thresh, limit in (
        (_NO_NMS, sys.maxsize),
        (settings.rpn_nms_thresh, sys.maxsize),
        (settings.rpn_nms_thresh, settings.proposals_test),
    ):
        rpn = copy.copy(network.rpn)  # shares the weights
        rpn.nms_thresh, rpn._post_nms_top_n = nms_thresh, {"testing": limit}
        [boxes], _ = rpn(ImageList(batch, [(image.shape[1], image.shape[2])]), features)
        found.append(boxes)
    candidates, after_nms, proposals = found
    return candidates, after_nms, proposals
