"""The worst images and the worst cells, as pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from everycell.evaluate.errors import Side, cell_table, worst_images
from everycell.evaluate.image import ComparedImage
from everycell.metrics import Category
from everycell.plot import SheetPanel, brighten, contact_sheet

# What is shown of each category: true or predicted cells, and which first.
_SHOWN: dict[Category, tuple[Side, str]] = {
    Category.MISSED: ("truth", "largest"),
    Category.SPURIOUS: ("pred", "surest"),
    Category.MERGED: ("truth", "lowest IoU"),
    Category.SPLIT: ("truth", "lowest IoU"),
    Category.DUPLICATE: ("pred", "surest"),
    Category.WRONG_CLASS: ("pred", "surest"),
    Category.POOR_LOCALISATION: ("truth", "lowest IoU"),
}
# Columns of the table of cells, and whether small values come first.
_ORDERS: dict[str, dict[str, bool]] = {
    "largest": {"diameter": False, "iou": True},
    "surest": {"score": False, "diameter": False},
    "lowest IoU": {"iou": True, "diameter": False},
}
_MIN_WINDOW_PX = 40
_MAX_NAME = 28  # letters of an image's name in a caption


def worst_sheet(
    images: Sequence[ComparedImage],
    read_pixels: Callable[[str], NDArray[np.uint8]],
    *,
    n_images: int = 6,
    n_cells: int = 6,
    title: str = "",
) -> Figure:
    """Draw the images of lowest PQ, then the worst cells of each kind of error.

    Missed cells are ranked by size; spurious ones, duplicates and wrong classes by score; merged, split and poorly
    localised ones by IoU. Of several cells with the same partner one is shown.

    Args:
        images: from `Evaluator.images`.
        read_pixels: gives the pixels of an image (uint8 [H, W, 3], RGB) by its name; called once for each one shown.
        n_images: how many images.
        n_cells: how many cells of each kind.
        title: above all.
    """
    tables = {side: cell_table(images, side) for side, _ in _SHOWN.values()}
    cells = {category: _worst_cells(tables[side], category, n_cells) for category, (side, _) in _SHOWN.items()}
    whole = worst_images(images)[:n_images]
    shown = {image.name for image in whole} | {images[i].name for found in cells.values() for i, _ in found}
    pixels = {name: brighten(read_pixels(name)) for name in sorted(shown)}
    sections = {"Worst images: lowest PQ": [_whole(image, pixels[image.name]) for image in whole]}
    for category, found in cells.items():
        side, order = _SHOWN[category]
        heading = f"{category.label.replace('_', ' ').capitalize()}: {order} first"
        sections[heading] = [_close_up(images[i], pixels[images[i].name], side, cell) for i, cell in found]
    return contact_sheet(sections, title=title)


def _worst_cells(table: pd.DataFrame, category: Category, n: int) -> list[tuple[int, int]]:
    """The `n` worst cells of a category, worst first: (number of the image, number of the cell)."""
    ranks = _ORDERS[_SHOWN[category][1]] | {"image": True, "cell": True}
    table = table[table["category"] == category].sort_values(list(ranks), ascending=list(ranks.values()))
    seen_before = table.duplicated(["image", "partner"]) & (table["partner"] >= 0)
    rows = table.loc[~seen_before, ["image", "cell"]].head(n)
    return list(zip(rows["image"].tolist(), rows["cell"].tolist(), strict=True))


def _whole(image: ComparedImage, pixels: NDArray[np.uint8]) -> SheetPanel:
    measures = image.measures
    figures = (
        f"PQ {measures.pq:.2f}   F1 {measures.f1_50:.2f}   {measures.n_truth:,} true, {measures.n_pred:,} predicted"
    )
    return SheetPanel(pixels, image.truth, image.pred, f"{_short(image.name)}\n{figures}")


def _close_up(image: ComparedImage, pixels: NDArray[np.uint8], side: Side, cell: int) -> SheetPanel:
    """A cell in the middle, together with its partner if the two overlap by more than a little."""
    errors = image.errors.truth if side == "truth" else image.errors.pred
    alone = errors.category[cell] in (Category.MISSED, Category.SPURIOUS)
    partner = -1 if alone else int(errors.partner[cell])
    true, found = (cell, partner) if side == "truth" else (partner, cell)
    focus_truth, focus_pred = ((number,) if number >= 0 else () for number in (true, found))
    lines = [_short(image.name)]
    if len(image.truth.class_names) > 1:
        names = [image.truth.class_name(int(image.truth.class_ids[i])) for i in focus_truth]
        names += [image.pred.class_name(int(image.pred.class_ids[i])) for i in focus_pred]
        lines.append(" → ".join(names))
    scores = [f"   score {image.pred.scores[i]:.2f}" for i in focus_pred]
    lines.append(f"{'best ' if alone else ''}IoU {errors.iou[cell]:.2f}{''.join(scores)}")
    boxes = [*image.truth.masks.boxes[list(focus_truth)], *image.pred.masks.boxes[list(focus_pred)]]
    window = _window(np.array(boxes), image.truth.image_size)
    return SheetPanel(pixels, image.truth, image.pred, "\n".join(lines), window, focus_truth, focus_pred)


def _window(boxes: NDArray[np.int32], image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square around `boxes`, twice as wide as they are, moved into the image and cut off where it is larger."""
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    size = np.array(image_size[::-1])
    side = np.minimum(max(_MIN_WINDOW_PX, 2 * int((high - low).max())), size)
    x0, y0 = np.clip((low + high - side) // 2, 0, size - side).tolist()
    return x0, y0, x0 + int(side[0]), y0 + int(side[1])


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
