"""An ablation beside the figures it repeats."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_BAR = 0.38
_OWN, _REPORTED = "tab:blue", "0.75"


def plot_ablation(
    measured: Mapping[str, tuple[float, float | None]], reported: Mapping[str, float], data: str
) -> Figure:
    """Draw AP50 of each configuration, measured and reported, as pairs of horizontal bars.

    Args:
        measured: configuration → mean and standard deviation (None for a single run).
        reported: configuration → AP50 in the report.
        data: what was measured on, for the legend.
    """
    figure = Figure(figsize=(9, 0.6 * len(measured) + 1.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = list(measured)
    rows = range(len(names))
    values = [measured[name][0] for name in names]
    bars = axes.barh([y - _BAR / 2 for y in rows], values, _BAR, color=_OWN, label=f"measured on {data}")
    spread = [(y - _BAR / 2, *measured[name]) for y, name in enumerate(names) if measured[name][1] is not None]
    if spread:
        places, means, sds = zip(*spread, strict=True)
        axes.errorbar(means, places, xerr=sds, fmt="none", color="black", capsize=3, linewidth=1)
    others = axes.barh(
        [y + _BAR / 2 for y in rows],
        [reported[name] for name in names],
        _BAR,
        color=_REPORTED,
        label="in the report, on its own data",
    )
    axes.bar_label(bars, labels=[f"{value:.3f}" for value in values], padding=14 if spread else 3, fontsize=9)
    axes.bar_label(others, fmt="%.2f", padding=3, fontsize=9, color="0.4")
    axes.set_yticks(rows, [name.replace("+", " + ") for name in names])
    axes.invert_yaxis()
    axes.set(xlabel="AP at IoU 0.5", xlim=(0, None))
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure
