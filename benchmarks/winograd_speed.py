"""3×3 convolutions in float32: Winograd's way beside torch's own, forwards and in a training step, layer by layer.

    python benchmarks/winograd_speed.py [--out benchmarks/winograd_speed.json]

Layers of the presets `baseline` and `reference`; and of `nuclei` and `tissue`, whose layers have fewer channels: there
everycell takes Winograd's way for the gradients of kernels alone. In turns, in one process; CPU seconds, median of the
rounds. The error is the largest difference of Winograd's way from a float64 convolution, in standard deviations of the
outputs.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from everycell.files import write_bytes
from everycell.models import winograd
from timing import in_turns, machine, seconds

ROUNDS = 5
TORCH, OURS = "torch", "everycell"
LAYERS = {  # name: (images, channels, outputs, side)
    "mask head": (128, 256, 256, 14),
    "wide mask predictor, first": (128, 256, 512, 14),
    "wide mask predictor, others": (128, 512, 512, 14),
    "pyramid, 512 px": (1, 256, 256, 128),
    "pyramid, 2 crops of 256 px": (2, 256, 256, 64),
    "slim pyramid, 2 crops of 256 px": (2, 128, 128, 64),
    "slim mask head": (32, 128, 128, 14),
    "first blocks of ResNet-18, 2 crops of 256 px": (2, 64, 64, 64),
}


def step(conv: Callable[[Tensor], Tensor], x: Tensor, weights: Tensor) -> None:
    """Forwards and backwards to inputs and parameters."""
    conv(x.detach().requires_grad_()).backward(weights)


def infer(conv: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        return conv(x)


def measure(images: int, channels: int, outputs: int, side: int) -> dict[str, Any]:
    """One layer's row."""
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, outputs, 3, padding=1).to(memory_format=torch.channels_last)
    ours = winograd.WinogradConv2d(channels, outputs, 3, padding=1).to(memory_format=torch.channels_last)
    ours.load_state_dict(plain.state_dict())
    ours.frozen = True  # as in prediction; training takes no notice of it
    ways = {TORCH: plain, OURS: ours}
    x = torch.relu(torch.randn(images, channels, side, side)).to(memory_format=torch.channels_last)
    exact = nn.Conv2d(channels, outputs, 3, padding=1).double()
    exact.load_state_dict(plain.state_dict())
    few = x[:8]
    truth = infer(exact, few.double())
    weights = torch.randn_like(infer(plain, x))
    row: dict[str, Any] = {"shape": [images, channels, outputs, side]}
    kernel = winograd.transform_kernel(ours.weight.detach())
    # So few tiles the layer itself would leave to torch.
    found = {TORCH: infer(plain, few), OURS: infer(lambda i: winograd.convolve(i, kernel, ours.bias), few)}
    for way in ways:
        row[f"error of {way}"] = float(f"{float((found[way] - truth).abs().max() / truth.std()):.2g}")
    for what, action in (("forward", infer), ("training", partial(step, weights=weights))):
        taken = in_turns({way: partial(seconds, partial(action, conv, x)) for way, conv in ways.items()}, ROUNDS)
        medians = {way: statistics.median(cpu for cpu, _ in runs) for way, runs in taken.items()}
        row[what] = {way: round(value, 4) for way, value in medians.items()}
        row[what]["ratio"] = round(medians[TORCH] / medians[OURS], 2)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    layers = {}
    for name, shape in LAYERS.items():
        layers[name] = measure(*shape)
        print(name, json.dumps(layers[name]), flush=True)
    record = {"cpu": torch.backends.cpu.get_cpu_capability(), "rounds": ROUNDS, "layers": layers} | machine()
    write_bytes(options.out, json.dumps(record, indent=1).encode())


if __name__ == "__main__":
    main()
