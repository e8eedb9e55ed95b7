"""How a training run went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_BLUE, _ORANGE, _GREEN, _GRAY = "tab:blue", "tab:orange", "tab:green", "0.5"


def plot_curves(history: Sequence[Mapping[str, Any]] | pd.DataFrame) -> Figure:
    """Draw losses on the left (training blue, validation orange) and validation AP on the right.

    Args:
        history: one row for each epoch with `epoch` and any of `train_loss`, `val_loss`, `val_map` and `val_ap50`;
            values may be missing. The best `val_map` is marked.
    """
    rows = pd.DataFrame(history)
    figure = Figure(figsize=(11, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    losses, precision = figure.subplots(1, 2)
    _line(losses, rows, "train_loss", "training", _BLUE)
    _line(losses, rows, "val_loss", "validation", _ORANGE)
    losses.set(title="Loss", xlabel="epoch", ylabel="loss")
    losses.set_ylim(bottom=0)
    _line(precision, rows, "val_ap50", "AP at IoU 0.5", _GREEN)
    _line(precision, rows, "val_map", "mAP (IoU 0.5 … 0.95)", _ORANGE)
    precision.set(title="Validation AP", xlabel="epoch", ylabel="AP", ylim=(0, 1))
    _mark_best(precision, rows)
    for axes in (losses, precision):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, loc="best")
    return figure


def _line(axes: Axes, rows: pd.DataFrame, column: str, label: str, color: str) -> None:
    if column not in rows:
        return
    known = rows[["epoch", column]].dropna()
    if len(known):
        # A dot for each value keeps a run of one epoch visible.
        axes.plot(known["epoch"], known[column].astype(float), color=color, label=label, marker="o", markersize=3)


def _mark_best(axes: Axes, rows: pd.DataFrame) -> None:
    if "val_map" not in rows or rows["val_map"].isna().all():
        return
    values = rows["val_map"].to_numpy(float)
    at = int(np.nanargmax(values))
    epoch, best = rows["epoch"].iloc[at], values[at]
    axes.axvline(epoch, color=_GRAY, linewidth=0.8, linestyle=":")
    axes.set_title(f"Validation AP: best mAP {best:.3f} in epoch {epoch:g}")
