"""What a machine can multiply at most, and how many operations the parts of a network take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from everycell.models import supports_bf16
from timing import seconds

ROUNDS = 7
_ROIS, _CHANNELS, _SIDE = 128, 256, 14  # a layer of the standard mask head
_MATRIX = 2048
_PARTS = {
    "trunk": ("backbone",),
    "proposals": ("rpn",),
    "box head": ("roi_heads.box_head", "roi_heads.box_predictor"),
    "mask head": ("roi_heads.mask_head", "roi_heads.mask_predictor"),
}


def peaks() -> dict[str, float]:
    """GFLOP/s of the mask head's 3×3 convolution (128 RoIs, 256 → 256 channels, 14×14) and of a matrix product.

    In float32, and in bfloat16 where everycell would use it.
    """
    found = {}
    with torch.inference_mode():
        for kind in (torch.float32, torch.bfloat16)[: 1 + supports_bf16(torch.device("cpu"))]:
            name = str(kind).removeprefix("torch.")
            images = torch.randn(_ROIS, _CHANNELS, _SIDE, _SIDE).to(kind, memory_format=torch.channels_last)
            kernel = torch.randn(_CHANNELS, _CHANNELS, 3, 3).to(kind, memory_format=torch.channels_last)
            square = torch.randn(_MATRIX, _MATRIX).to(kind)
            found[f"conv {name}"] = _rate(lambda i=images, k=kernel: F.conv2d(i, k, padding=1))
            found[f"matmul {name}"] = _rate(lambda s=square: s @ s)
    return found


def _rate(action: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        action()
    wall = min(seconds(action)[1] for _ in range(ROUNDS))
    return round(counter.get_total_flops() / wall / 1e9, 1)


class Operations:
    """FLOPs of the parts of a Mask R-CNN, by the calls of a function in which its forward passes run.

    Attributes:
        flops: of each part so far.
    """

    def __init__(self) -> None:
        self.flops: Counter[str] = Counter()

    def counted(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, which counts."""

        def counting(*arguments: Any) -> Any:
            with FlopCounterMode(display=False) as counter:
                found = forward(*arguments)
            by_module = {
                name.partition(".")[2]: sum(flops.values()) for name, flops in counter.get_flop_counts().items()
            }
            self.flops.update({part: sum(by_module.get(m, 0) for m in modules) for part, modules in _PARTS.items()})
            return found

        return counting
