"""Pictures as data URIs, so that the page needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import PIL.Image
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.spatial import KDTree

from everycell.evaluate import ComparedImage, worst_sheet
from everycell.metrics import Category, CellErrors
from everycell.plot import brighten, magnification, overlay
from everycell.structures import Instances

VIEW_PX = 512
"""Larger images show a part of this side: cells would be dots otherwise."""

_RIGHT, _INEXACT, _ALONE = 2, 3, 4
OUTCOMES = {"correct": _RIGHT, "found, but wrong": _INEXACT, "missed or spurious": _ALONE}
"""What became of a cell → the class whose colour says so: cyan, amber, vermilion."""

ReadPixels = Callable[[str], NDArray[np.uint8]]
"""Gives the pixels of an image, uint8 [H, W, 3], RGB, by its name."""

_LONGEST_PX = 640  # of a picture in the page, which shows it at about half of that
_LINE_PX = 3  # outlines in that picture


@dataclass(frozen=True)
class ShownImage:
    """An image twice: with its true and with its predicted cells, as data URIs.

    Attributes:
        image: the image.
        truth: its picture with true cells.
        pred: its picture with predicted cells.
        part: which part of it is shown, "" when all.
    """

    image: ComparedImage
    truth: str
    pred: str
    part: str


def show_classes(image: ComparedImage, read_pixels: ReadPixels) -> ShownImage:
    """The middle of an image, its cells coloured by class."""
    pixels = brighten(read_pixels(image.name))
    truth, pred = (picture_uri(pixels, cells) for cells in (image.truth, image.pred))
    return ShownImage(image, truth, pred, "its middle" if _is_cut(image) else "")


def show_outcomes(image: ComparedImage, read_pixels: ReadPixels) -> ShownImage:
    """The part of an image with most errors, its cells coloured by `OUTCOMES`."""
    pixels = brighten(read_pixels(image.name))
    truth = _by_outcome(image.truth, image.errors.truth)
    pred = _by_outcome(image.pred, image.errors.pred)
    wrong = np.concatenate([cells.boxes[cells.class_ids != _RIGHT] for cells in (truth, pred)])
    corner = _corner(wrong, truth.image_size)
    of_truth, of_pred = (picture_uri(pixels, cells, corner) for cells in (truth, pred))
    return ShownImage(image, of_truth, of_pred, "the part with most errors" if _is_cut(image) else "")


def worst_cells_uri(images: Sequence[ComparedImage], read_pixels: ReadPixels) -> str:
    """Contact sheet of the worst cells of each kind of error as a data URI; "" when every cell is right."""
    errors = [side for image in images for side in (image.errors.truth, image.errors.pred)]
    if all((side.category == Category.CORRECT).all() for side in errors):
        return ""
    return figure_uri(worst_sheet(images, read_pixels, n_images=0))


def picture_uri(pixels: NDArray[np.uint8], cells: Instances, corner: tuple[int, int] | None = None) -> str:
    """A part of an image, `VIEW_PX` at most, with its cells outlined in their classes' colours, as a data URI.

    Args:
        pixels: uint8 [H, W, 3], RGB.
        cells: of this image.
        corner: (x, y) of the part's top left pixel; None takes the middle.
    """
    factor = magnification(cells.image_size)
    view = min(VIEW_PX, max(cells.image_size)) * factor
    drawn = overlay(pixels, cells, width_px=max(1, round(_LINE_PX * view / _LONGEST_PX)))
    middle = [max(0, (side - view) // 2) for side in drawn.shape[:2]]
    top, left = middle if corner is None else (factor * corner[1], factor * corner[0])
    picture = PIL.Image.fromarray(drawn[top : top + view, left : left + view])
    picture.thumbnail((_LONGEST_PX, _LONGEST_PX), PIL.Image.Resampling.LANCZOS)
    return _jpeg_uri(picture)


def figure_uri(figure: Figure) -> str:
    """A figure as a data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return _jpeg_uri(PIL.Image.open(buffer).convert("RGB"))


def _is_cut(image: ComparedImage) -> bool:
    return max(image.truth.image_size) > VIEW_PX


def _by_outcome(cells: Instances, errors: CellErrors) -> Instances:
    """The cells with what became of them in place of their classes."""
    outcome = np.full(len(cells), _INEXACT, np.int64)
    outcome[errors.category == Category.CORRECT] = _RIGHT
    outcome[np.isin(errors.category, (Category.MISSED, Category.SPURIOUS))] = _ALONE
    return replace(cells, class_ids=outcome)


def _corner(boxes: NDArray[np.float32], image_size: tuple[int, int]) -> tuple[int, int] | None:
    """Where a view lies that has the cell with most others around it in its middle; None without cells."""
    if not len(boxes):
        return None
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    around = KDTree(centers).query_ball_point(centers, VIEW_PX / 2, p=np.inf, return_length=True)
    rest = np.maximum(np.array(image_size[::-1]) - VIEW_PX, 0)
    x, y = np.clip(centers[around.argmax()] - VIEW_PX / 2, 0, rest).astype(int).tolist()
    return x, y


def _jpeg_uri(picture: PIL.Image.Image) -> str:
    buffer = io.BytesIO()
    # Thin coloured outlines need their colour at full resolution.
    picture.save(buffer, format="jpeg", quality=85, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
