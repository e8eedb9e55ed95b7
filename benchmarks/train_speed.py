"""Speed, peak memory and losses of a training step beside torchvision's, with the same RoIs.

    python benchmarks/train_speed.py --data DIR [--steps 50] [--short-px 512] [--learning-rate 1e-5]
                                     [--out benchmarks/train_speed.json]

Both train the preset `reference` without augmentation, batch 2, on the images of DIR (a data set as for `everycell
train`), from the same start weights, each with its own weights from then on: forward, backward, clipping, Adam. Its
learning rate is low by default: from random weights the preset's makes losses leap, and rounding alone sets them apart.

- torchvision: its `MaskRCNN` as it comes, float32, whole images with uint8 masks N × H × W that its transform resizes,
  its own RoI pooling. Making these masks is not timed.
- everycell: as `everycell train` does it, cutting the example and its targets included; in bfloat16 where the processor
  is fast at it, unless `--float32`.

Each runs in a process of its own, so that peaks are its own, in turns for every step, so that both meet the same load.
What torchvision draws (matches, anchors, RoIs) is replayed to everycell, which draws too. CPU time is that of a
process's threads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.ops import MultiScaleRoIAlign

import everycell
from everycell.config import RunSettings
from everycell.datasets import open_dataset
from everycell.models import CellMaskRCNN, supports_bf16
from everycell.models.winograd import speed_up
from everycell.train import get_preset
from everycell.train.data import CropSource, make_target
from everycell.train.memory import PeakMemory
from everycell.train.schedule import Schedule
from replay import LEARNT, record, replay
from train_memory import dense_target, our_network, stock_network

BATCH = 2


def run_settings(short_px: int, learning_rate: float) -> RunSettings:
    settings = get_preset("reference")
    return RunSettings(
        model=settings.model.model_copy(update={"resize_short_px": short_px}),
        train=settings.train.model_copy(update={"recipe": "none", "learning_rate": learning_rate}),
    )


class Stock:
    """torchvision's step, and what it drew."""

    def __init__(self, data: Path, settings: RunSettings, drawn: Path) -> None:
        self.dataset, self.settings = open_dataset(data), settings
        self.source = CropSource(self.dataset, list(range(len(self.dataset))), settings.model, settings.train)
        self.network: MaskRCNN = stock_network(settings, len(self.dataset.class_names))
        heads = self.network.roi_heads
        levels = [str(level) for level in range(settings.model.backbone_layers)]
        # `stock_network` has everycell's pooling.
        heads.box_roi_pool, heads.mask_roi_pool = (MultiScaleRoIAlign(levels, size, 2) for size in (7, 14))
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, settings.train.learning_rate, weight_decay=1e-4)
        record(self.network, drawn, LEARNT)

    def prepare(self, places: range) -> None:
        """Read the images of a step, and make their masks."""
        samples = [self.dataset.load(place % len(self.dataset)) for place in places]
        self.images = [torch.from_numpy(s.image.pixels).permute(2, 0, 1).float() / 255 for s in samples]
        self.targets = []
        for place, sample in zip(places, samples, strict=True):
            layers = torch.from_numpy(sample.layers)
            # Cells too small at network scale are left out, so that both sides number cells alike.
            shown = self.source.training_example(1, place, place % len(self.dataset)).target["values"]
            keep = torch.isin(make_target(layers, sample.class_ids)["values"], shown)
            dense = dense_target(layers, sample.class_ids)
            self.targets.append({key: value[keep] for key, value in dense.items()})

    def step(self, places: range) -> dict[str, float]:
        """One step; the loss terms."""
        self.optimizer.zero_grad()
        losses = self.network(self.images, self.targets)
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(self.parameters, self.settings.train.clip_norm)
        self.optimizer.step()
        return {name: value.item() for name, value in losses.items()}


class Ours:
    """everycell's step, with what torchvision drew."""

    def __init__(self, data: Path, settings: RunSettings, drawn: Path, *, bf16: bool) -> None:
        dataset = open_dataset(data)
        self.settings, self.bf16 = settings, bf16
        self.source = CropSource(dataset, list(range(len(dataset))), settings.model, settings.train)
        network = our_network(settings, len(dataset.class_names))
        speed_up(network)
        self.network: CellMaskRCNN = network.to(memory_format=torch.channels_last)
        self.schedule = Schedule(self.network, settings.train, 1)
        replay(self.network, drawn, LEARNT)

    def prepare(self, places: range) -> None:
        """Read the images of a step, as a run that has seen them before."""
        for place in places:
            self.source.load(place % len(self.source.indices))

    def step(self, places: range) -> dict[str, float]:
        """One step; the loss terms."""
        self.schedule.optimizer.zero_grad()
        examples = [self.source.training_example(1, place, place % len(self.source.indices)) for place in places]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            _, losses = self.network([e.image for e in examples], [e.target for e in examples])
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.train.clip_norm)
        self.schedule.step()
        return {name: value.item() for name, value in losses.items()}


def uses_bf16(options: argparse.Namespace) -> bool:
    return not options.float32 and supports_bf16(torch.device("cpu"))


def work(options: argparse.Namespace) -> None:
    """One side: a step, and a line of JSON about it, for every line that comes in."""
    settings = run_settings(options.short_px, options.learning_rate)
    given = options.data, settings, options.drawn
    side = Stock(*given) if options.side == "torchvision" else Ours(*given, bf16=uses_bf16(options))
    memory = PeakMemory(torch.device("cpu"))
    memory.reset()
    for number in map(int, sys.stdin):
        places = range(number * BATCH, (number + 1) * BATCH)
        side.prepare(places)
        torch.manual_seed(number)
        wall, cpu = time.perf_counter(), time.process_time()
        losses = side.step(places)
        spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps({"losses": losses, **spent, "peak_bytes": memory.read()}), flush=True)


def turns(options: argparse.Namespace, drawn: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """What both sides say of each step, one step after the other."""
    command = [sys.executable, __file__, *sys.argv[1:], "--drawn", str(drawn), "--side"]
    sides = {
        name: subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("torchvision", "everycell")
    }
    for number in range(options.steps):
        step = {}
        for name, process in sides.items():
            assert process.stdin
            assert process.stdout
            print(number, file=process.stdin, flush=True)
            step[name] = json.loads(process.stdout.readline())
        yield step
    for process in sides.values():
        process.communicate()


def summary(steps: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Medians without the first step, which warms up; peaks; mean losses."""
    timed = steps[1:] or steps
    report: dict[str, Any] = {}
    for name in steps[0]:
        times = {key: statistics.median(s[name][key] for s in timed) for key in ("seconds", "cpu_seconds")}
        means = {term: statistics.fmean(s[name]["losses"][term] for s in steps) for term in steps[0][name]["losses"]}
        report[name] = {key: round(value, 3) for key, value in times.items()}
        report[name]["peak_bytes"] = max(s[name]["peak_bytes"] for s in steps)
        report[name]["losses"] = {"total": round(sum(means.values()), 4)} | {k: round(v, 4) for k, v in means.items()}
    theirs, own = report["torchvision"], report["everycell"]
    totals = [[sum(s[name]["losses"].values()) for name in ("torchvision", "everycell")] for s in steps]
    report["ratio"] = {
        key: round(statistics.median(s["torchvision"][key] / s["everycell"][key] for s in timed), 2)
        for key in ("seconds", "cpu_seconds")
    }
    report["memory_share"] = round(own["peak_bytes"] / theirs["peak_bytes"], 3)
    report["loss_difference"] = round(own["losses"]["total"] / theirs["losses"]["total"] - 1, 4)
    report["largest_loss_difference_of_a_step"] = round(max(abs(b / a - 1) for a, b in totals), 4)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--short-px", type=int, default=512, help="short side of the image at the network")
    parser.add_argument("--learning-rate", type=float, default=1e-5, help="the preset's makes losses leap at first")
    parser.add_argument("--float32", action="store_true", help="everycell in float32 as well")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--drawn", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        work(options)
        return
    steps = []
    with tempfile.TemporaryDirectory() as drawn:
        for step in turns(options, Path(drawn)):
            steps.append(step)
            print(len(steps), summary(steps), flush=True)
    report = {
        "measured": "one training step of preset reference, batch 2, CPU; median of all steps but the first",
        "steps": len(steps),
        "short_px": options.short_px,
        "learning_rate": options.learning_rate,
        "everycell_precision": "bfloat16" if uses_bf16(options) else "float32",
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"everycell": everycell.__version__, "torch": torch.__version__},
        "machine": f"{platform.platform()}, {os.cpu_count()} processors",
        **summary(steps),
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
