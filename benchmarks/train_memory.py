"""What share of a training step's memory the truth takes: N × H × W masks against label layers.

    python benchmarks/train_memory.py --data DIR [--out benchmarks/train_memory.json]

One step of the preset `reference` on the first two images of DIR (a data set as for `everycell train`), batch 2,
float32, on the CPU: forward, backward, Adam. Each variant runs in a process of its own with the same start weights,
random state and pooling, so that only the way of the truth differs:

- everycell: label layers, sampled where the mask loss needs them; also in bfloat16;
- torchvision: its `MaskRCNN` with uint8 masks N × H × W at network scale, which its transform copies as float32;
- torchvision, whole images: the same with images and masks as large as in the files; its transform shrinks both.

The region proposal network starts at zero, so that proposals are the same to the last bit and losses can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

import everycell
from everycell.config import RunSettings, TrainSettings
from everycell.datasets import open_dataset
from everycell.models import CellMaskRCNN, init_backbone
from everycell.models.backbones import build_backbone
from everycell.models.mask_heads import build_mask_head
from everycell.models.mask_rcnn import build_rpn
from everycell.models.roi_align import PyramidRoIAlign
from everycell.structures import Sample
from everycell.train import get_preset
from everycell.train.data import CropSource, make_target
from everycell.train.memory import PeakMemory
from everycell.train.schedule import Schedule

VARIANTS = ("everycell", "torchvision", "torchvision, whole images", "everycell, bfloat16")


def our_network(settings: RunSettings, n_classes: int) -> CellMaskRCNN:
    torch.manual_seed(0)
    network = CellMaskRCNN(settings.model, n_classes)
    init_backbone(network.backbone, settings.model, "random")
    for layer in (network.rpn.head.cls_logits, network.rpn.head.bbox_pred):
        torch.nn.init.zeros_(layer.weight)
    return network.train()


def stock_network(settings: RunSettings, n_classes: int) -> MaskRCNN:
    """Torchvision's Mask R-CNN with the weights of `our_network`."""
    ours, model, classes = our_network(settings, n_classes), settings.model, n_classes + 1
    head, predictor = build_mask_head(model, classes)
    rpn = build_rpn(model)
    backbone = build_backbone(model)
    init_backbone(backbone, model, "random")
    stock = MaskRCNN(
        backbone,
        min_size=model.resize_short_px,
        max_size=model.resize_max_px,
        rpn_anchor_generator=rpn.anchor_generator,
        rpn_head=rpn.head,
        rpn_pre_nms_top_n_train=model.proposals_train,
        rpn_post_nms_top_n_train=model.proposals_train,
        rpn_score_thresh=model.rpn_score_thresh,
        box_head=TwoMLPHead(model.fpn_channels * 49, model.box_head_channels),
        box_predictor=FastRCNNPredictor(model.box_head_channels, classes),
        box_batch_size_per_image=model.box_batch_per_image,
        mask_head=head,
        mask_predictor=predictor,
    )
    for name, size in (("box_roi_pool", 7), ("mask_roi_pool", 14)):
        pool = PyramidRoIAlign(model.backbone_layers, size, model.canonical_px, model.aligned)
        setattr(stock.roi_heads, name, pool)
    stock.load_state_dict(ours.state_dict())
    return stock.train()


def dense_target(layers: torch.Tensor, class_ids: np.ndarray) -> dict[str, torch.Tensor]:
    """A target as torchvision takes it, of the same cells as everycell's."""
    target = make_target(layers, class_ids)
    masks = torch.empty((len(target["boxes"]), *layers.shape[1:]), dtype=torch.uint8)
    for i, (layer, value) in enumerate(zip(target["layer_of"], target["values"], strict=True)):
        masks[i] = layers[layer] == value
    return {"boxes": target["boxes"], "labels": target["labels"], "masks": masks}


def seed(*_: object) -> None:
    """Before anchors and RoIs are drawn, and not earlier: torchvision's transform draws random numbers too."""
    torch.manual_seed(1)


def step(variant: str, data: Path) -> dict[str, object]:
    """Peak memory and loss of one step."""
    dataset = open_dataset(data)
    samples: list[Sample] = [dataset.load(i) for i in range(2)]
    settings = get_preset("reference")
    source = CropSource(dataset, [0, 1], settings.model, TrainSettings(recipe="none"))
    examples = [source.training_example(1, place, place) for place in range(2)]
    n_classes = len(dataset.class_names)
    if variant.startswith("everycell"):
        network = our_network(settings, n_classes)
        images, targets = [e.image for e in examples], [e.target for e in examples]
        truth = sum(target["layers"].nbytes for target in targets)
    else:
        network = stock_network(settings, n_classes)
        if variant == "torchvision":
            images, layers = [e.image for e in examples], [e.target["layers"] for e in examples]
        else:
            images = [torch.from_numpy(s.image.pixels).permute(2, 0, 1).float() / 255 for s in samples]
            layers = [torch.from_numpy(s.layers) for s in samples]
        targets = [dense_target(layer, s.class_ids) for layer, s in zip(layers, samples, strict=True)]
        truth = sum(target["masks"].nbytes for target in targets)
    schedule = Schedule(network, settings.train, 1)
    memory = PeakMemory(torch.device("cpu"))
    memory.reset()
    before = memory.read()
    network.rpn.register_forward_pre_hook(seed)
    with torch.autocast("cpu", torch.bfloat16, enabled=variant == "everycell, bfloat16"):
        losses = network(images, targets)
    losses = losses if isinstance(losses, dict) else losses[1]
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), settings.train.clip_norm)
    schedule.step()
    return {
        "images": [s.name for s in samples],
        "cells": [len(target["boxes"]) for target in targets],
        "truth_bytes": truth,
        "before_bytes": before,
        "peak_bytes": memory.read(),
        "loss": round(float(total.detach()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps(step(arguments.variant, arguments.data)))
        return
    results = {}
    for variant in VARIANTS:
        command = [sys.executable, __file__, "--data", str(arguments.data), "--variant", variant]
        results[variant] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(variant, results[variant], flush=True)
    least = results["everycell"]["peak_bytes"]
    for variant in VARIANTS[1:3]:
        results[variant]["share_of_masks"] = round(1 - least / results[variant]["peak_bytes"], 3)
    report = {
        "measured": "peak resident set of one training step, preset reference, batch 2, float32, CPU",
        "share_of_masks": "1 - peak of everycell / peak of the variant",
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"everycell": everycell.__version__, "torch": torch.__version__},
        "machine": f"{platform.platform()}, {os.cpu_count()} processors",
        "variants": results,
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
