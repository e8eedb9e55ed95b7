"""Everycell from an image file to run-length codes, its stages watched."""

from __future__ import annotations

from pathlib import Path

from torchvision.ops import boxes as box_ops

import everycell
from everycell.formats import coco
from everycell.io import open_source
from everycell.models import roi_heads
from everycell.predict import detector, network, predictor
from everycell.predict.predictor import PredictOptions
from everycell.structures import Instances
from replay import replay
from roofline import Operations
from timing import Stages


class Everycell:
    """Everycell from an image file to a COCO results file."""

    def __init__(self, model: Path, drawn: Path | None = None, *, bf16: bool = True) -> None:
        """Load the model; `drawn` is where torchvision's proposals and boxes are, which it then takes."""
        self.model, self.stages = everycell.load_model(model, device="cpu", bf16=bf16), Stages()
        self.card, net = self.model.card, self.model.network
        for owner, attribute, stage in (
            (predictor, "contrast_range", "resize"),
            (network.NetworkDetector, "network_pixels", "resize"),
            (net, "batch", "resize"),
            (net.backbone, "forward", "trunk"),
            (net.rpn, "forward", "proposals"),
            (net.roi_heads, "forward", "box head"),
            (net.roi_heads, "_segment", "mask head"),
            (net.roi_heads.box_roi_pool, "forward", "box RoIAlign"),
            (net.roi_heads.mask_roi_pool, "forward", "mask RoIAlign"),
            (box_ops, "batched_nms", "NMS"),
            (roi_heads, "nms", "NMS"),
            (network, "masks_to_crops", "masks"),
            (detector, "worth_keeping", "stitching"),
            (coco, "encode", "encoding"),
        ):
            self.stages.watch(owner, attribute, stage)
        if drawn is not None:
            replay(net, drawn)

    def prepare(self, size: tuple[int, int]) -> None:
        """Do nothing: the network takes tiles of any size."""

    def run(self, path: Path, out: Path, thresh: float | None = None) -> Instances:
        """Find the cells of an image and write them; scores from `thresh` on, the model's own when None."""
        with self.stages.stage("read"):
            source = open_source(path)
        for attribute in ("read", "read_at", "overview"):
            self.stages.watch(source, attribute, "read")
        with source:
            tiles = self.model.tiled(source, PredictOptions(score_thresh=thresh))
            tiles.run()
            with self.stages.stage("stitching"):
                cells = tiles.cells()
        with self.stages.stage("writing"):
            coco.write_coco(cells, out)
        return cells

    def run_without_rule(self, path: Path, out: Path, thresh: float) -> Instances:
        """As `run`, with the cells that lie under better ones."""
        settings = self.card.settings.model_copy(update={"max_covered": None})
        self.model.card = self.card.model_copy(update={"settings": settings})
        try:
            return self.run(path, out, thresh)
        finally:
            self.model.card = self.card

    def flops(self, path: Path, out: Path) -> dict[str, int]:
        """Of the network's parts, for one image."""
        operations, forward = Operations(), self.model._forward
        self.model._forward = operations.counted(forward)
        try:
            self.run(path, out)
        finally:
            self.model._forward = forward
        return dict(operations.flops)
