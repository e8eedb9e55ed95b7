"""Many small pictures of true and predicted outlines on one sheet."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextToPath
from numpy.typing import NDArray

from everycell.formats.outlines import trace
from everycell.structures import Instances

_TRUTH_COLOR, _PRED_COLOR = "#00d8ff", "#ffb000"  # far apart for colour-blind eyes too, on gray and on pink
_BACKGROUND = "#444444"  # both colours must show in the legend
_WIDTH_IN, _MARGIN_IN, _GAP_IN = 12.0, 0.25, 0.12
_TITLE_IN, _LEGEND_IN, _HEADING_IN, _LINE_IN = 0.4, 0.4, 0.4, 0.15
_CAPTION_PT = 7.5


@dataclass(frozen=True)
class SheetPanel:
    """One picture of a contact sheet.

    Attributes:
        pixels: uint8 [H, W, 3], RGB, the whole image.
        truth: true cells of the whole image.
        pred: predicted cells of the whole image.
        caption: below the picture; may have several lines, and long ones are broken to the picture's width.
        window: the part to show, half-open (x0, y0, x1, y1) in px inside the image; all of it when None.
        focus_truth: numbers of the true cells to stress; with none in either focus, all outlines are drawn alike.
        focus_pred: numbers of the predicted cells to stress.
    """

    pixels: NDArray[np.uint8]
    truth: Instances
    pred: Instances
    caption: str = ""
    window: tuple[int, int, int, int] | None = None
    focus_truth: tuple[int, ...] = ()
    focus_pred: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert self.pixels.shape == (*self.truth.image_size, 3) == (*self.pred.image_size, 3)


def contact_sheet(sections: Mapping[str, Sequence[SheetPanel]], *, title: str = "", columns: int = 6) -> Figure:
    """Draw sections of pictures, each with true outlines in one colour and predicted ones, thinner, in another.

    Args:
        sections: heading → its pictures; one without pictures is left out.
        title: above all.
        columns: pictures in a row; half as many where a section shows whole images.
    """
    rows: list[tuple[str, Sequence[SheetPanel], float]] = []
    for heading, panels in sections.items():
        n = max(1, columns // 2) if any(panel.window is None for panel in panels) else columns
        side_in = (_WIDTH_IN - 2 * _MARGIN_IN - (n - 1) * _GAP_IN) / n
        fitting = [replace(panel, caption=_fit(panel.caption, side_in)) for panel in panels]
        rows += [("" if i else heading, fitting[i : i + n], side_in) for i in range(0, len(panels), n)]
    top = _MARGIN_IN + _LEGEND_IN + (_TITLE_IN if title else 0)
    heights = [(_HEADING_IN if heading else 0) + side_in + _caption_in(panels) for heading, panels, side_in in rows]
    height = top + sum(heights) + _MARGIN_IN
    figure = Figure(figsize=(_WIDTH_IN, height), dpi=150)
    FigureCanvasAgg(figure)
    left = _MARGIN_IN / _WIDTH_IN
    figure.text(left, 1 - _MARGIN_IN / height, title, fontsize=14, va="top", parse_math=False)
    _legend(figure, (left, 1 - (top - _LEGEND_IN) / height))
    for (heading, panels, side_in), row_in in zip(rows, heights, strict=True):
        figure.text(left, 1 - (top + 0.1) / height, heading, fontsize=11, fontweight="bold", va="top", parse_math=False)
        bottom = top + side_in + (_HEADING_IN if heading else 0)
        for i, panel in enumerate(panels):
            x = _MARGIN_IN + i * (side_in + _GAP_IN)
            _draw(figure.add_axes((x / _WIDTH_IN, 1 - bottom / height, side_in / _WIDTH_IN, side_in / height)), panel)
        top += row_in
    return figure


def _fit(caption: str, width_in: float) -> str:
    """Break lines that are wider than `width_in`."""
    font = FontProperties(size=_CAPTION_PT)

    def fits(line: str) -> bool:
        width_pt, _, _ = TextToPath().get_text_width_height_descent(line, font, ismath=False)
        return bool(width_pt <= 72 * width_in)

    lines: list[str] = []
    for line in caption.splitlines():
        n, pieces = len(line), [line]
        while n > 1 and not all(map(fits, pieces)):
            n = int(0.95 * n)
            pieces = textwrap.wrap(line, n)
        lines += pieces
    return "\n".join(lines)


def _caption_in(panels: Sequence[SheetPanel]) -> float:
    return 2 * _GAP_IN + _LINE_IN * max(len(panel.caption.splitlines()) for panel in panels)


def _draw(axes: Axes, panel: SheetPanel) -> None:
    height, width = panel.truth.image_size
    x0, y0, x1, y1 = panel.window or (0, 0, width, height)
    smooth = "antialiased" if panel.window is None else "nearest"  # a crop shows its pixels as they are
    axes.imshow(panel.pixels[y0:y1, x0:x1], extent=(x0, x1, y1, y0), interpolation=smooth)
    width_pt = 0.8 if panel.window is None else 1.2
    in_focus = bool(panel.focus_truth or panel.focus_pred)
    # The truth is wider and lies below, so that it shows on both sides of a perfect prediction.
    for cells, focus, color, times in (
        (panel.truth, panel.focus_truth, _TRUTH_COLOR, 2.2),
        (panel.pred, panel.focus_pred, _PRED_COLOR, 1.0),
    ):
        boxes = cells.masks.boxes
        seen = (boxes[:, 0] < x1) & (boxes[:, 2] > x0) & (boxes[:, 1] < y1) & (boxes[:, 3] > y0)
        stressed = np.isin(np.arange(len(cells)), focus)
        faint = 0.6 if in_focus else 1.0
        _outline(axes, cells.select(seen & ~stressed), color, times * width_pt * faint, faint)
        _outline(axes, cells.select(seen & stressed), color, times * width_pt, 1.0)
    axes.set(xlim=(x0, x1), ylim=(y1, y0), xticks=[], yticks=[], anchor="N")
    axes.set_xlabel(panel.caption, fontsize=_CAPTION_PT, loc="left", labelpad=3, parse_math=False)


def _outline(axes: Axes, cells: Instances, color: str, width_pt: float, opacity: float) -> None:
    rings = [ring for parts in trace(cells.masks) for polygon in parts for ring in polygon]
    axes.add_collection(LineCollection(rings, colors=color, linewidths=width_pt, alpha=opacity))


def _legend(figure: Figure, corner: tuple[float, float]) -> None:
    handles = [
        Line2D([], [], color=_TRUTH_COLOR, linewidth=4, label="truth"),
        Line2D([], [], color=_PRED_COLOR, linewidth=2, label="prediction"),
    ]
    legend = figure.legend(handles=handles, loc="upper left", bbox_to_anchor=corner, ncols=2, fontsize=9, borderpad=0.3)
    legend.set(frame_on=True)
    legend.get_frame().set(facecolor=_BACKGROUND, edgecolor="none")
    for text in legend.get_texts():
        text.set_color("white")
