"""Speed of `Model.predict` beside torchvision's own forward on the same weights, and peak memory of the command.

    python benchmarks/predict_speed.py --data DIR [--out benchmarks/predict_speed.json]

Both start from the same stretched pixels, in turns, in one process. The peer is torchvision's `MaskRCNN` in float32 as
it comes, with its own resizing and `paste_masks_in_image`: N full-image masks. DIR holds `tnbc/images` and
`tnbc/labels`; a generated crowd of 512×512 px is measured as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

import everycell
from everycell.datasets import open_dataset, synthetic_sample
from everycell.evaluate import Evaluator
from everycell.models.backbones import build_backbone
from everycell.models.checkpoint import find_model, load_network
from everycell.models.mask_heads import build_mask_head
from everycell.models.mask_rcnn import build_rpn
from everycell.models.roi_align import PyramidRoIAlign
from everycell.structures import Instances, MaskCrops, Sample
from everycell.transforms import contrast_range, stretch

ROUNDS = 5


def stock_network(name: str, size: tuple[int, int]) -> MaskRCNN:
    """Torchvision's Mask R-CNN with the weights of model `name`, resizing images of `size` as that model does."""
    network, card = load_network(find_model(name))
    settings, classes = card.settings, len(card.class_names) + 1
    head, predictor = build_mask_head(settings, classes)
    pools = [
        PyramidRoIAlign(settings.backbone_layers, side, settings.canonical_px, settings.aligned) for side in (7, 14)
    ]
    rpn = build_rpn(settings)
    stock = MaskRCNN(
        build_backbone(settings),
        min_size=round(min(size) * settings.magnification),
        max_size=round(max(size) * settings.magnification),
        rpn_anchor_generator=rpn.anchor_generator,
        rpn_head=rpn.head,
        rpn_pre_nms_top_n_test=settings.proposals_test,
        rpn_post_nms_top_n_test=settings.proposals_test,
        rpn_score_thresh=settings.rpn_score_thresh,
        box_head=TwoMLPHead(settings.fpn_channels * 49, settings.box_head_channels),
        box_predictor=FastRCNNPredictor(settings.box_head_channels, classes),
        box_score_thresh=card.score_thresh,
        box_detections_per_img=settings.detections_per_image,
        mask_head=head,
        mask_predictor=predictor,
    )
    # Trained with sub-pixel pooling, the weights need it here too.
    stock.roi_heads.box_roi_pool, stock.roi_heads.mask_roi_pool = pools
    stock.load_state_dict(network.state_dict())
    return stock.eval()


def stock_predict(stock: MaskRCNN, sample: Sample) -> Instances:
    """Through torchvision: boxes, scores and N × H × W masks, cut at 0.5; then crops to compare (not timed apart)."""
    pixels = stretch(sample.image.pixels, contrast_range(sample.image.pixels))
    with torch.inference_mode():
        found: dict[str, Tensor] = stock([torch.from_numpy(pixels).permute(2, 0, 1)])[0]
    dense = (found["masks"][:, 0] > 0.5).numpy()
    boxes = found["boxes"].numpy()
    low, high = np.floor(boxes[:, :2]).astype(int), np.ceil(boxes[:, 2:]).astype(int) + 1
    crops = [mask[y0:y1, x0:x1] for mask, (x0, y0), (x1, y1) in zip(dense, np.maximum(low, 0), high, strict=True)]
    masks = MaskCrops.from_crops(np.maximum(low, 0), crops)
    return Instances(boxes, found["scores"].numpy(), found["labels"].numpy(), masks, sample.image.size)


def timed(action: Callable[[], Instances]) -> tuple[float, Instances]:
    """Seconds and result of one call."""
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def compare(model: everycell.predict.Model, name: str, sample: Sample) -> dict[str, object]:
    """Median times, in turns, and the agreement of each with the truth."""
    stock = stock_network(name, sample.image.size)
    ways: dict[str, Callable[[], Instances]] = {
        "torchvision": lambda: stock_predict(stock, sample),
        "everycell": lambda: model.predict(sample.image),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    row: dict[str, object] = {"image": sample.name, "size": list(sample.image.size), "n_truth": len(sample.class_ids)}
    for turn in range(ROUNDS + 1):  # the first turn warms up
        for way, action in ways.items():
            seconds, _ = timed(action)
            if turn:
                times[way].append(seconds)
    for way, action in ways.items():
        evaluator = Evaluator(model.class_names)
        evaluator.add(sample.name, sample.to_instances(), action())
        row[way] = {"seconds": round(statistics.median(times[way]), 3), "f1_50": round(evaluator.result().f1_50, 4)}
    row["ratio"] = round(statistics.median(times["torchvision"]) / statistics.median(times["everycell"]), 2)
    return row


def peak_memory_mb(name: str) -> dict[str, float]:
    """Peak resident memory of `everycell predict` on 2500×2000 px of tissue, and of importing torch and torchvision."""
    from skimage.data import immunohistochemistry

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.png"
        PillowImage.fromarray(np.tile(immunohistochemistry(), (4, 5, 1))[:2000, :2500]).save(path)
        commands = {
            "import": [sys.executable, "-c", "import torch, torchvision"],
            "predict": [sys.executable, "-m", "everycell", "predict", str(path), "-o", f"{folder}/out", "-m", name],
        }
        peaks = {}
        for key, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            peaks[f"{key}_seconds"] = round(time.perf_counter() - start, 1)
            # The largest child so far; import comes first and is the smaller one.
            peaks[f"{key}_peak_mb"] = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--images", type=int, default=3, help="real images to measure")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    memory = peak_memory_mb(options.model)
    model = everycell.load_model(options.model, device="cpu")
    tissue = open_dataset(options.data / "tnbc")
    chosen = np.linspace(0, len(tissue) - 1, options.images).astype(int).tolist()
    samples = [tissue.load(i) for i in chosen]
    samples.append(synthetic_sample(np.random.default_rng(0), (512, 512), 400, diameter_px=18.0, name="generated"))
    record = {
        "model": model.name,
        "sha256": model.sha256,
        "bf16": model.bf16,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "rounds": ROUNDS,
        "memory_2500x2000": memory,
        "images": [compare(model, options.model, sample) for sample in samples],
    }
    print(json.dumps(record, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
