"""An ablation's results as Markdown, JSON and a bar chart."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch
from scipy.stats import kendalltau

import everycell
from everycell.files import write_bytes
from everycell.plot import plot_ablation, save_png
from everycell.train.ablation import REPORT_AP50, Ablation, mean_and_sd, row_settings

_COLUMNS = {"ap50": "AP50", "map": "AP@[.5:.95]", "ap75": "AP75", "f1_50": "F1@0.5"}
_MIN_ROWS_FOR_ORDER = 3


def write_ablation(ablation: Ablation, device: torch.device) -> list[Path]:
    """Write `ablation.json`, `ablation.md` and `ablation.png` of the results so far into the ablation's folder."""
    record = summarize(ablation, device)
    paths = [ablation.out / f"ablation.{suffix}" for suffix in ("md", "json", "png")]
    write_bytes(paths[0], to_markdown(record).encode())
    write_bytes(paths[1], json.dumps(record, indent=1, ensure_ascii=False).encode())
    own = {name: (row["ap50"]["mean"], row["ap50"]["sd"]) for name, row in record["rows"].items()}
    save_png(plot_ablation(own, REPORT_AP50, record["data"]), paths[2])
    return paths


def summarize(ablation: Ablation, device: torch.device) -> dict[str, Any]:
    """Conditions, hardware, and for each row its runs with mean and sample standard deviation, as JSON values."""
    rows = {}
    for name, runs in ablation.results().items():
        settings = row_settings(name, ablation.settings, 0)
        rows[name] = {
            "report_ap50": REPORT_AP50[name],
            "backbone": settings.model.backbone,
            "anchor_sizes": list(settings.model.anchor_sizes),
            "mask_head": settings.model.mask_head,
            "recipe": settings.train.recipe,
            "steps_done": settings.train.epochs * (settings.train.steps_per_epoch or 0),
            "batch_size": settings.train.batch_size,
            "rois_per_image": settings.model.box_batch_per_image,
            **{key: dict(zip(("mean", "sd"), mean_and_sd([r[key] for r in runs]), strict=True)) for key in _COLUMNS},
            "runs": runs,
        }
    return {
        **ablation.conditions,
        "hardware": _hardware(device),
        "versions": {"everycell": everycell.__version__, "torch": torch.__version__},
        "rows": rows,
    }


def to_markdown(record: dict[str, Any]) -> str:
    """The table of `summarize`'s record, with what a reader must know around it."""
    rows = record["rows"]
    head = ["configuration", *_COLUMNS.values(), "Δ AP50", "AP50 in the report", "Δ in the report"]
    lines = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for name, row in rows.items():
        figures = [_figure(row[key]) for key in _COLUMNS]
        own, theirs = "–", "–"
        if name != "baseline":
            theirs = f"{row['report_ap50'] - REPORT_AP50['baseline']:+.2f}"
            if "baseline" in rows:
                own = f"{row['ap50']['mean'] - rows['baseline']['ap50']['mean']:+.3f}"
        cells = [name, *figures, own, f"{row['report_ap50']:.2f}", theirs]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*_conditions(record), "", *lines, "", *_order(rows)]) + "\n"


def _conditions(record: dict[str, Any]) -> list[str]:
    rows = record["rows"].values()
    seeds = max((len(row["runs"]) for row in rows), default=0)
    held_out = record["validation"]
    first = next(iter(rows), None)
    lines = [
        f"Data: {record['data']}, {record['images'] - len(held_out)} images for training and {len(held_out)} for "
        f"validation ({', '.join(held_out)}). **The report's figures are from other data** (209 training images, a "
        "public leaderboard): compare directions and order, not values.",
    ]
    if first:
        what = f"crops of {record['crop_px']} px" if record["crop_px"] else "whole images, short side 512 px"
        lines.append(
            f"Every row: {first['steps_done']} steps of {first['batch_size']} {what}, {first['rois_per_image']} RoIs "
            f"sampled in each, the model after the last step. Start weights: {record['init_weights']}. "
            f"Hardware: {record['hardware']}. "
            + (f"Mean ± standard deviation of up to {seeds} seeds." if seeds > 1 else "One seed: no spread is known.")
        )
    return lines


def _order(rows: dict[str, Any]) -> list[str]:
    """How the order of the rows compares with the report's."""
    if len(rows) < _MIN_ROWS_FOR_ORDER:
        return []
    own = [row["ap50"]["mean"] for row in rows.values()]
    tau = kendalltau(own, [row["report_ap50"] for row in rows.values()]).statistic
    best = " > ".join(sorted(rows, key=lambda name: -rows[name]["ap50"]["mean"]))
    return [f"Order by AP50: {best}. Kendall's τ with the report's order: {tau:.2f} (1 is the same order, 0 none)."]


def _figure(value: dict[str, float | None]) -> str:
    return f"{value['mean']:.3f}" + (f" ± {value['sd']:.3f}" if value["sd"] is not None else "")


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"
