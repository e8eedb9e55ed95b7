"""How tightly sets of anchors fit cells."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

_PANEL_IN = 5.0


def plot_coverage(panels: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> Figure:
    """Draw the share of cells that an anchor covers, over the IoU that counts as covered.

    Args:
        panels: title of a panel → name of a set of anchors → best IoU of each cell, float64 [N], N ≥ 1.
    """
    figure = Figure(figsize=(_PANEL_IN * len(panels), 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, sets) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, ious in sets.items():
            n = len(ious)
            # Every cell counts up to its own IoU, none above the largest.
            axes.step([0, *np.sort(ious), 1], [1, *(1 - np.arange(n) / n), 0], label=name)
        for threshold in (0.5, 0.7):
            axes.axvline(threshold, color="0.5", linewidth=0.8, linestyle=":")
        axes.set(title=title, xlabel="IoU with the best anchor", ylabel="share of cells", xlim=(0, 1), ylim=(0, 1.01))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper right")
    return figure
