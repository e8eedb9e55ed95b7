"""Geometry of line charts; the templates draw them as SVG, so that text stays text and colours follow the theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 10.0, 10.0, 26.0


@dataclass(frozen=True)
class Point:
    """One value of a line: its place in the chart, and what it says."""

    x: float
    y: float
    epoch: float
    value: float


@dataclass(frozen=True)
class Chart:
    """Lines over epochs, ready to draw; all places in SVG units, y pointing down.

    Attributes:
        title: what a screen reader says.
        width, height: of the whole.
        left, right, top, bottom: edges of the plot area.
        lines: label → points; values that are NaN are left out.
        x_ticks, y_ticks: (place, text).
        best_x: place of the best epoch, None when there is none.
    """

    title: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    lines: dict[str, tuple[Point, ...]]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    best_x: float | None


def line_chart(
    title: str,
    epochs: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    best: float | None = None,
    size: tuple[float, float] = (480.0, 250.0),
    y_max: float | None = None,
) -> Chart:
    """Lay out `series` (label → one value for each epoch, NaN where unknown) from y = 0 upwards.

    Args:
        title: what a screen reader says.
        epochs: ascending.
        series: the lines.
        best: the epoch to mark.
        size: (width, height) of the chart.
        y_max: highest value that must fit; the largest of the values when None.
    """
    width, height = size
    right, bottom = width - _RIGHT, height - _BOTTOM
    values = np.array([list(line) for line in series.values()], float).reshape(len(series), len(epochs))
    known = values[np.isfinite(values)]
    highest = y_max if y_max is not None else (known.max() if len(known) else 1.0)
    y_values = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(0.0, float(highest) or 1.0)
    first, last = (float(epochs[0]), float(epochs[-1])) if len(epochs) else (1.0, 1.0)
    x_values = [t for t in MaxNLocator(6, integer=True).tick_values(first, max(last, first + 1)) if first <= t <= last]

    def x(epoch: float) -> float:
        share = (epoch - first) / (last - first) if last > first else 0.5
        return round(_LEFT + share * (right - _LEFT), 1)

    def y(value: float) -> float:
        return round(bottom - value / float(y_values[-1]) * (bottom - _TOP), 1)

    return Chart(
        title=title,
        width=width,
        height=height,
        left=_LEFT,
        right=right,
        top=_TOP,
        bottom=bottom,
        lines={
            label: tuple(
                Point(x(epoch), y(value), epoch, value)
                for epoch, value in zip(epochs, row.tolist(), strict=True)
                if np.isfinite(value)
            )
            for label, row in zip(series, values, strict=True)
        },
        x_ticks=tuple((x(t), f"{t:g}") for t in x_values),
        y_ticks=tuple((y(float(t)), f"{t:g}") for t in y_values),
        best_x=None if best is None else x(best),
    )
