"""The JSON files of HoVer-Net's inference code: a contour and a class for each cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon, polygon_perimeter

from everycell.errors import DataError
from everycell.formats.classes import UNNAMED, Classes
from everycell.formats.json_file import json_kind, read_json
from everycell.formats.outlines import crossing, without_empty
from everycell.structures import Instances, MaskCrops


def hovernet_types(path: Path) -> set[int]:
    """Class numbers in a file; none where its cells have no class."""
    return {cell["type"] for _, cell in _cells(path) if type(cell.get("type")) is int}


def read_hovernet_json(
    path: Path, image_size: tuple[int, int], classes: Classes = UNNAMED, mpp: float | None = None
) -> Instances:
    """Read the cells of one image; all have score 1, because `type_prob` is not how sure a cell is there.

    A contour passes through the centres of the border pixels, which belong to the cell.

    Args:
        path: the file.
        image_size: (height, width) of the image; what lies outside is cut off.
        classes: what the numbers in `type` stand for.
        mpp: micrometres per pixel of the image.

    Raises:
        DataError: the file is none of HoVer-Net's, or a cell has no class or a contour that crosses itself.
    """
    origins, crops, class_ids = [], [], []
    for where, cell in _cells(path):
        origin, bits = _fill(cell.get("contour"), image_size, where)
        origins.append(origin)
        crops.append(bits)
        try:
            class_ids.append(classes.by_id(cell.get("type"), "type"))
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
    cells = Instances.from_masks(
        MaskCrops.from_crops(np.array(origins, np.int64).reshape(-1, 2), crops),
        image_size,
        class_ids=np.array(class_ids, np.int64),
        mpp=mpp,
        class_names=classes.names,
    )
    return without_empty(cells)


def _cells(path: Path) -> list[tuple[str, dict[str, Any]]]:
    content = read_json(path, "HoVer-Net results")
    if json_kind(content) != "hovernet" or not all(isinstance(cell, dict) for cell in content["nuc"].values()):
        raise DataError(f'{path}: expected {{"nuc": {{"1": {{"contour": …, "type": …}}, …}}}} as HoVer-Net writes it')
    return [(f"{path}, cell {key}", cell) for key, cell in content["nuc"].items()]


def _fill(contour: Any, size: tuple[int, int], where: str) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """(x, y) of the window's top left pixel, and the window's bits."""
    try:
        points = np.asarray(contour, np.float64)
    except (TypeError, ValueError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not (np.abs(points) < 2**31).all():
        raise DataError(f"{where}: contour must be 3 points [x, y] or more, got {str(contour)[:40]}")
    if place := crossing([[np.concatenate([points, points[:1]])]]):
        raise DataError(f"{where}: the contour crosses itself ({place}); export the cells as label images instead")
    x, y = points.T
    inside = [polygon(y, x, size), polygon_perimeter(y, x, size, clip=False)]  # type: ignore[no-untyped-call]
    rows, columns = np.concatenate(inside, axis=1)
    if not len(rows):
        return (0, 0), np.zeros((0, 0), np.bool_)
    x0, y0 = int(columns.min()), int(rows.min())
    bits = np.zeros((rows.max() - y0 + 1, columns.max() - x0 + 1), np.bool_)
    bits[rows - y0, columns - x0] = True
    return (x0, y0), bits
