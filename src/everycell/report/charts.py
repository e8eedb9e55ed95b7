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
    at: float
    value: float


@dataclass(frozen=True)
class Chart:
    """Lines, ready to draw; all places in SVG units, y pointing down.

    Attributes:
        title: what a screen reader says.
        x_name: what the lines run over.
        width, height: of the whole.
        left, right, top, bottom: edges of the plot area.
        lines: label → points; values that are NaN are left out.
        x_ticks, y_ticks: (place, text).
        guides: thin lines (x1, y1, x2, y2) to compare with.
    """

    title: str
    x_name: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    lines: dict[str, tuple[Point, ...]]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    guides: tuple[tuple[float, float, float, float], ...]


def line_chart(
    title: str,
    at: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    x_name: str = "epoch",
    best: float | None = None,
    diagonal: bool = False,
    size: tuple[float, float] = (480.0, 250.0),
    y_max: float | None = None,
) -> Chart:
    """Lay out `series` (label → one value for each x, NaN where unknown) from y = 0 upwards.

    Args:
        title: what a screen reader says.
        at: values of x, ascending.
        series: the lines.
        x_name: what `at` is.
        best: the x to mark.
        diagonal: let x run from 0 to 1 and mark where y equals it.
        size: (width, height) of the chart.
        y_max: highest value that must fit; the largest of the values when None.
    """
    width, height = size
    right, bottom = width - _RIGHT, height - _BOTTOM
    values = np.array([list(line) for line in series.values()], float).reshape(len(series), len(at))
    known = values[np.isfinite(values)]
    highest = y_max if y_max is not None else (known.max() if len(known) else 1.0)
    y_values = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(0.0, float(highest) or 1.0)
    first, last = (0.0, 1.0) if diagonal else (float(at[0]), float(at[-1])) if len(at) else (1.0, 1.0)
    whole = not diagonal and all(float(value).is_integer() for value in at)
    x_locator = MaxNLocator(6, integer=whole, steps=[1, 2, 5, 10])
    x_values = [t for t in x_locator.tick_values(first, last if last > first else first + 1) if first <= t <= last]

    def x(value: float) -> float:
        share = (value - first) / (last - first) if last > first else 0.5
        return round(_LEFT + share * (right - _LEFT), 1)

    def y(value: float) -> float:
        return round(bottom - value / float(y_values[-1]) * (bottom - _TOP), 1)

    guides = [] if best is None else [(x(best), _TOP, x(best), bottom)]
    if diagonal:
        guides.append((x(0), y(0), x(1), y(1)))
    return Chart(
        title=title,
        x_name=x_name,
        width=width,
        height=height,
        left=_LEFT,
        right=right,
        top=_TOP,
        bottom=bottom,
        lines={
            label: tuple(
                Point(x(place), y(value), place, value)
                for place, value in zip(at, row.tolist(), strict=True)
                if np.isfinite(value)
            )
            for label, row in zip(series, values, strict=True)
        },
        x_ticks=tuple((x(t), f"{t:g}") for t in x_values),
        y_ticks=tuple((y(float(t)), f"{t:g}") for t in y_values),
        guides=tuple(guides),
    )
