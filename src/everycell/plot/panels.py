"""An image, its cells, and both together, side by side."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from everycell.plot.overlay import overlay
from everycell.structures import Instances
from everycell.structures.colors import class_color, instance_colors

_PANEL_IN = 5.0
_LINE_IN = 0.35  # height of a line of text
_FILL_OPACITY = 0.3


def plot_panels(pixels: NDArray[np.uint8], instances: Instances, *, title: str = "") -> Figure:
    """Draw three panels: the image, one colour for each cell, and outlines by class on the gray image.

    A scale bar appears when µm/px is known, and a legend with counts when the cells have more than one class.

    Args:
        pixels: uint8 [H, W, 3], RGB.
        instances: cells of this image.
        title: above the panels.
    """
    height, width = instances.image_size
    panel_height = float(np.clip(_PANEL_IN * height / width, 0.4 * _PANEL_IN, 2 * _PANEL_IN))
    n_lines = 1 + bool(title) + (len(instances.class_names) > 1)
    figure = Figure(figsize=(3 * _PANEL_IN, panel_height + _LINE_IN * n_lines), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    count = f"{len(instances):,} cell{'' if len(instances) == 1 else 's'}"
    pictures = {
        "Image": pixels,
        f"Instance mask: {count}": _paint(instances),
        "Overlay": overlay(pixels, instances, gray=True, opacity=_FILL_OPACITY),
    }
    panels = figure.subplots(1, 3)
    for axes, (name, picture) in zip(panels, pictures.items(), strict=True):
        axes.imshow(picture, extent=(0, width, height, 0), interpolation="antialiased")
        axes.set_title(name, fontsize=12)
        axes.set_axis_off()
    if instances.mpp is not None:
        _scale_bar(panels[0], instances.image_size, instances.mpp)
    _legend(figure, instances)
    if title:
        figure.suptitle(title, fontsize=14)
    return figure


def _paint(instances: Instances) -> NDArray[np.uint8]:
    """One colour for each cell on black, uint8 [H, W, 3]."""
    colors = np.concatenate([np.zeros((1, 3), np.uint8), instance_colors(len(instances))])
    return colors[instances.to_labels()]


def scale_bar_um(width_um: float) -> float:
    """Length of the scale bar, µm: the largest 1, 2 or 5 times a power of ten within a quarter of the image's width."""
    longest = width_um / 4
    decade = 10.0 ** np.floor(np.log10(longest))
    return float(max(step * decade for step in (1, 2, 5) if step * decade <= longest))


def _scale_bar(axes: Axes, image_size: tuple[int, int], mpp: float) -> None:
    height, width = image_size
    length_um = scale_bar_um(width * mpp)
    margin, thickness = 0.03 * width, 0.012 * width
    right, bottom = width - margin, height - margin
    left = right - length_um / mpp
    bar = Rectangle((left, bottom - thickness), right - left, thickness, facecolor="white", edgecolor="black", lw=0.8)
    axes.add_patch(bar)
    axes.text(
        (left + right) / 2,
        bottom - 1.5 * thickness,
        f"{length_um:g} µm",
        color="white",
        ha="center",
        va="bottom",
        fontsize=11,
        fontweight="bold",
        path_effects=[withStroke(linewidth=2, foreground="black")],
    )


def _legend(figure: Figure, instances: Instances) -> None:
    counts = np.bincount(instances.class_ids, minlength=len(instances.class_names) + 1)
    if len(counts) <= 2:
        return
    handles = [
        Patch(color="#{:02x}{:02x}{:02x}".format(*class_color(i)), label=f"{instances.class_name(i)} ({counts[i]:,})")
        for i in range(1, len(counts))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False, fontsize=11)
