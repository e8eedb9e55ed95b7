"""Pictures as data URIs, so that the page needs no other file."""

from __future__ import annotations

import base64
import io

import numpy as np
import PIL.Image
from matplotlib.figure import Figure
from numpy.typing import NDArray

from everycell.plot import magnification, overlay
from everycell.structures import Instances

VIEW_PX = 512
"""Larger images show a middle of this side: cells would be dots otherwise."""

_LONGEST_PX = 640  # of a picture in the page, which shows it at about half of that
_LINE_PX = 3  # outlines in that picture


def picture_uri(pixels: NDArray[np.uint8], cells: Instances) -> str:
    """The middle of an image, `VIEW_PX` at most, with its cells outlined in their classes' colours, as a data URI.

    Args:
        pixels: uint8 [H, W, 3], RGB.
        cells: of this image.
    """
    factor = magnification(cells.image_size)
    view = min(VIEW_PX, max(cells.image_size)) * factor
    drawn = overlay(pixels, cells, width_px=max(1, round(_LINE_PX * view / _LONGEST_PX)))
    top, left = (max(0, (side - view) // 2) for side in drawn.shape[:2])
    picture = PIL.Image.fromarray(drawn[top : top + view, left : left + view])
    picture.thumbnail((_LONGEST_PX, _LONGEST_PX), PIL.Image.Resampling.LANCZOS)
    return _jpeg_uri(picture)


def figure_uri(figure: Figure) -> str:
    """A figure as a data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return _jpeg_uri(PIL.Image.open(buffer).convert("RGB"))


def _jpeg_uri(picture: PIL.Image.Image) -> str:
    buffer = io.BytesIO()
    # Thin coloured outlines need their colour at full resolution.
    picture.save(buffer, format="jpeg", quality=85, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
