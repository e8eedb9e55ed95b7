"""An image, its cells, and both together, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from everycell.formats.outlines import Ring, trace
from everycell.plot.overlay import to_gray
from everycell.structures import Instances
from everycell.structures.colors import class_color, instance_colors

_SIDE_IN = 6.4  # longer side of a panel; text and gaps are in proportion to it
_SMALL_PX, _LARGE_PX = 960, 2000  # longer sides under and over which a panel is enlarged or reduced
_GAP_IN, _SUPTITLE_IN, _TITLE_IN, _LEGEND_IN = 0.12, 0.24, 0.36, 0.32
_MIN_WIDTH = 0.5  # of a panel, in longer sides: room for its title
_FILL_OPACITY = 0.3
_MIN_LINE_PX, _MAX_LINE_PX, _LINE_SHARE = 0.9, 2.4, 0.06  # outlines; the share is of the median cell's diameter
_LEGEND_COLUMNS = 4


def plot_panels(
    pixels: NDArray[np.uint8],
    cells: Instances,
    *,
    truth: Instances | None = None,
    by: Literal["class", "instance"] = "class",
    title: str = "",
) -> Figure:
    """Draw three panels: the image, one colour for each cell, and outlines on the gray image; a fourth for the truth.

    A scale bar appears when µm/px is known, and a legend with counts when colours stand for several classes. A class
    has the same colour in prediction and truth if it has the same name, or if both have one class.

    Args:
        pixels: uint8 [H, W, 3], RGB.
        cells: found in this image.
        truth: the true cells of this image.
        by: what the colours of the outlines stand for.
        title: above the panels.
    """
    sets = [cells] if truth is None else [cells, truth]
    assert all(pixels.shape == (*each.image_size, 3) for each in sets)
    names_of = [_class_names(each) for each in sets]
    if all(len(names) == 1 for names in names_of):
        names_of = names_of[:1] * len(sets)  # one class is one class, by whatever name
    names = list(dict.fromkeys(name for of_set in names_of for name in of_set))
    n_legend_rows = -(-len(names) // _LEGEND_COLUMNS) if by == "class" and len(names) > 1 else 0
    figure, panels, scale = _lay_out(cells.image_size, 2 + len(sets), bool(title), n_legend_rows)
    outlines = [_Outlines.of(each) for each in sets]
    _show(panels[0], pixels, "Image", scale)
    colors = instance_colors(len(cells))
    _show(panels[1], _paint(np.zeros_like(pixels), cells, colors, 1.0), f"Instance mask: {_count(cells)}", scale)
    outlines[0].draw(panels[1], np.zeros_like(colors), scale)  # keeps touching cells apart
    headings = ["Overlay"] if truth is None else [f"Prediction: {_count(cells)}", f"Truth: {_count(truth)}"]
    for i, (each, heading) in enumerate(zip(sets, headings, strict=True)):
        colors = instance_colors(len(each)) if by == "instance" else _class_colors(each, names_of[i], names)
        _show(panels[2 + i], _paint(to_gray(pixels), each, colors, _FILL_OPACITY), heading, scale)
        outlines[i].draw(panels[2 + i], colors, scale)
    if cells.mpp is not None:
        _scale_bar(panels[0], cells.image_size, cells.mpp)
    if n_legend_rows:
        _legend(figure, sets, names, n_legend_rows)
    if title:
        figure.suptitle(title, fontsize=14, y=1 - _GAP_IN / figure.get_figheight(), va="top")
    return figure


@dataclass(frozen=True)
class _Outlines:
    """Rings along the edges of pixels, the cell each belongs to, and the cells' typical diameter, image px."""

    rings: list[Ring]
    owners: list[int]
    diameter_px: float

    @classmethod
    def of(cls, cells: Instances) -> _Outlines:
        found = [(ring, i) for i, parts in enumerate(trace(cells.masks)) for polygon in parts for ring in polygon]
        area_px = float(np.median(cells.masks.areas())) if len(cells) else 0.0
        return cls([ring for ring, _ in found], [i for _, i in found], 2 * (area_px / np.pi) ** 0.5)

    def draw(self, axes: Axes, colors: NDArray[np.uint8], scale: float) -> None:
        """Draw each cell's outline in its colour, uint8 [N, 3], thinner where cells are small."""
        width_px = float(np.clip(_LINE_SHARE * self.diameter_px * scale, _MIN_LINE_PX, _MAX_LINE_PX))
        figure = axes.get_figure(root=True)
        assert figure is not None
        lines = LineCollection(self.rings, colors=colors[self.owners] / 255, linewidths=width_px * 72 / figure.dpi)
        axes.add_collection(lines, autolim=False)


def _show(axes: Axes, picture: NDArray[np.uint8], heading: str, scale: float) -> None:
    height, width = picture.shape[:2]
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="nearest" if scale >= 1 else "antialiased")
    axes.set_title(heading, fontsize=12, pad=4)
    axes.set_axis_off()


def _lay_out(
    image_size: tuple[int, int], n: int, has_title: bool, n_legend_rows: int
) -> tuple[Figure, list[Axes], float]:
    """An empty figure with `n` panels in a row, in a column for wide images, two by two for four square ones.

    Returns:
        The figure, its panels, and the figure's pixels for each pixel of the image.
    """
    height, width = image_size
    longest = max(image_size)
    scale = max(1, round(_SMALL_PX / longest)) if longest <= _SMALL_PX else min(1.0, _LARGE_PX / longest)
    panel_height, panel_width = (_SIDE_IN * side / longest for side in image_size)
    slot = max(panel_width, _MIN_WIDTH * _SIDE_IN)
    n_columns = 1 if width > 2 * height else 2 if n == 4 and height < 2 * width else n
    n_rows = -(-n // n_columns)
    above = _GAP_IN + (_SUPTITLE_IN if has_title else 0)
    total_width = n_columns * (slot + _GAP_IN) + _GAP_IN
    total_height = above + n_rows * (panel_height + _TITLE_IN) + n_legend_rows * _LEGEND_IN + _GAP_IN
    figure = Figure(figsize=(total_width, total_height), dpi=longest * scale / _SIDE_IN)
    FigureCanvasAgg(figure)
    panels = []
    for i in range(n):
        row, column = divmod(i, n_columns)
        left = _GAP_IN + column * (slot + _GAP_IN) + (slot - panel_width) / 2
        bottom = total_height - above - (row + 1) * (panel_height + _TITLE_IN)
        box = (left / total_width, bottom / total_height, panel_width / total_width, panel_height / total_height)
        panels.append(figure.add_axes(box))
    return figure, panels, scale


def _count(cells: Instances) -> str:
    return f"{len(cells):,} cell{'' if len(cells) == 1 else 's'}"


def _class_names(cells: Instances) -> list[str]:
    n_classes = max(len(cells.class_names), int(cells.class_ids.max(initial=1)))
    return [cells.class_name(i) for i in range(1, n_classes + 1)]


def _class_colors(cells: Instances, own_names: Sequence[str], names: Sequence[str]) -> NDArray[np.uint8]:
    """Colour of each cell by the place of its class's own name among all `names`, uint8 [N, 3]."""
    palette = np.array([class_color(1 + names.index(name)) for name in own_names], np.uint8)
    return palette[cells.class_ids - 1]


def _paint(
    picture: NDArray[np.uint8], cells: Instances, colors: NDArray[np.uint8], opacity: float
) -> NDArray[np.uint8]:
    """Fill cells with their colours; the higher score lies on top."""
    labels = cells.to_labels()
    inside = labels > 0
    painted = picture.copy()
    painted[inside] = np.round((1 - opacity) * picture[inside] + opacity * colors[labels[inside] - 1])
    return painted


def scale_bar_um(width_um: float) -> float:
    """Length of the scale bar, µm: the largest 1, 2 or 5 times a power of ten within a quarter of the image's width."""
    longest = width_um / 4
    decade = 10.0 ** np.floor(np.log10(longest))
    return float(max(step * decade for step in (1, 2, 5) if step * decade <= longest))


def _scale_bar(axes: Axes, image_size: tuple[int, int], mpp: float) -> None:
    height, width = image_size
    length_um = scale_bar_um(width * mpp)
    margin, thickness = 0.03 * min(image_size), 0.012 * max(image_size)
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


def _legend(figure: Figure, sets: Sequence[Instances], names: Sequence[str], n_rows: int) -> None:
    """Class names with their colours and counts, below the panels."""
    handles = []
    for i, name in enumerate(names, start=1):
        counts = [sum(each.class_name(c) == name for c in each.class_ids.tolist()) for each in sets]
        text = f"{counts[0]:,}" if len(sets) == 1 else f"{counts[0]:,} predicted, {counts[1]:,} true"
        handles.append(Patch(color="#{:02x}{:02x}{:02x}".format(*class_color(i)), label=f"{name} ({text})"))
    figure.legend(handles=handles, loc="lower center", ncols=-(-len(handles) // n_rows), frameon=False, fontsize=12)
