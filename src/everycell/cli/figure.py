"""`everycell figure`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from everycell.errors import DataError

if TYPE_CHECKING:
    from everycell.structures import Image, Instances


def figure(
    image: Annotated[Path, Parameter(metavar="IMAGE")],
    /,
    *,
    pred: Annotated[Path, Parameter(metavar="FILE")],
    output: Annotated[
        Path, Parameter(name=["--output", "-o"], metavar="FILE.png", validator=validators.Path(ext="png"))
    ],
) -> None:
    """Draw an image, its masks and their outlines side by side.

    Args:
        image: the image file.
        pred: its cells: a label image, .coco.json or .geojson.
        output: the picture, a .png file.
    """
    # Imported here, so that help and wrong usage stay fast.
    from everycell.io import read_image
    from everycell.plot import brighten, plot_panels, save_png

    picture = read_image(image)
    cells = _read_cells(pred, picture)
    if cells.image_size != picture.size:
        raise DataError(f"{pred} is for an image of (height, width) {cells.image_size}, but {image} has {picture.size}")
    save_png(plot_panels(brighten(picture.pixels), cells, title=image.name), output)


def _read_cells(path: Path, image: Image) -> Instances:
    from everycell.formats import read_coco, read_geojson, read_label_image

    if path.suffix == ".geojson":
        return read_geojson(path, image.size, mpp=image.mpp)
    if path.suffix == ".json":
        image_id = _only_image_id(path)
        return replace(read_coco(path, {image_id: image.size})[image_id], mpp=image.mpp)
    return read_label_image(path, mpp=image.mpp)


def _only_image_id(path: Path) -> int:
    """Image id of COCO results of one image; any id where there is none, because then the reader says what is wrong."""
    try:
        ids = {entry["image_id"] for entry in json.loads(path.read_bytes())}
    except (OSError, ValueError, TypeError, LookupError):
        return 1
    if len(ids) > 1:
        raise DataError(f"{path}: expected the cells of one image, got those of {len(ids)}; give the image's own file")
    return int(ids.pop()) if ids else 1
