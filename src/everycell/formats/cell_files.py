"""Files of cells, by name: which one belongs to which image, and one way to read them all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from everycell.errors import DataError
from everycell.formats.coco import read_coco
from everycell.formats.label_image import read_label_image
from everycell.formats.qupath_geojson import read_geojson
from everycell.structures import Instances

CellFileKind = Literal["coco", "geojson", "labels"]

# The first pattern that fits any file of a folder decides for the whole folder; those with scores come first.
_PATTERNS: tuple[tuple[CellFileKind, re.Pattern[str]], ...] = (
    ("coco", re.compile(r"(?P<stem>.+)\.coco\.json$")),
    ("geojson", re.compile(r"(?P<stem>.+)\.geojson$")),
    ("labels", re.compile(r"(?P<stem>.+)\.labels\.tiff?$", re.IGNORECASE)),
    ("labels", re.compile(r"(?P<stem>.+?)(_cp)?_masks\.(tiff?|png|npy)$", re.IGNORECASE)),
    ("labels", re.compile(r"(?P<stem>.+?)(\.ome)?\.(tiff?|png|npy)$", re.IGNORECASE)),
)


def find_cell_files(
    path: Path, kinds: Sequence[CellFileKind] = get_args(CellFileKind)
) -> tuple[dict[str, Path], CellFileKind]:
    """Find the files that hold the cells of one image each.

    Args:
        path: a folder, or one such file. Of a folder the first kind of file that is there is taken: `.coco.json`,
            `.geojson`, `.labels.tif`, `_masks.*` (`_cp_masks.*`), any other label image.
        kinds: to look for.

    Returns:
        stem → file, sorted by stem, and their common kind.

    Raises:
        DataError: there is no such file, or there are two for one stem.
    """
    children = sorted(child for child in (path.iterdir() if path.is_dir() else [path]) if child.is_file())
    for kind, pattern in _PATTERNS:
        found: dict[str, Path] = {}
        for child in children if kind in kinds else ():
            matched = pattern.match(child.name)
            if matched is None or child.name.startswith("."):
                continue
            if matched["stem"] in found:
                raise DataError(f"{found[matched['stem']]} and {child.name} are for the same image; keep one of them")
            found[matched["stem"]] = child
        if found:
            return dict(sorted(found.items())), kind
    raise DataError(
        f"no cells in {path}: expected <stem>.coco.json, <stem>.geojson, or label images "
        "(<stem>.labels.tif, <stem>_masks.*, <stem>.tif, .png or .npy)"
    )


def read_cell_file(
    path: Path,
    kind: CellFileKind,
    size: tuple[int, int] | None,
    class_names: Sequence[str] = (),
    mpp: float | None = None,
) -> Instances:
    """Read the cells of one image.

    Args:
        path: the file.
        kind: what `find_cell_files` took it for.
        size: (height, width) of the image; None only if the file says it, as label images do, and COCO results that
            hold at least one cell.
        class_names: names of classes 1 … K; of no use to a label image, which has one class.
        mpp: micrometres per pixel of the image.

    Raises:
        DataError: the file cannot be read, is for an image of another size, or does not say the size.
    """
    if kind == "labels":
        cells = read_label_image(path, mpp)
    elif kind == "coco" and (found := read_coco(path, None, class_names)):
        if len(found) > 1:
            raise DataError(f"{path} must hold the cells of one image, got those of {len(found)}; give the file itself")
        cells = replace(next(iter(found.values())), mpp=mpp)
    elif size is None:
        raise DataError(f"{path} does not say how large its image is; name the image or its size")
    elif kind == "coco":
        cells = Instances.empty(size, mpp, class_names)
    else:
        cells = read_geojson(path, size, class_names, mpp)
    if size is not None and cells.image_size != size:
        raise DataError(f"{path} is for an image of (height, width) {cells.image_size}, but the image has {size}")
    return cells
