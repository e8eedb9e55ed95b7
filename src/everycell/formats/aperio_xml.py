"""Outlines drawn in Aperio ImageScope: the `.xml` beside an `.svs`, as MoNuSAC is published.

(Verma et al. 2021, "MoNuSAC2020", IEEE Transactions on Medical Imaging 40.)
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.formats.classes import UNNAMED, Classes
from everycell.formats.outlines import crossing, fill, without_empty
from everycell.structures import Instances, MaskCrops

_FREEHAND, _RECTANGLE = "0", "1"
_MIN_CORNERS = {_FREEHAND: 3, _RECTANGLE: 4}


@dataclass(frozen=True)
class _Region:
    """One outline, float64 [corners, 2], closed, with the name of its layer's class and its place for messages."""

    ring: NDArray[np.float64]
    label: str
    where: str


def read_aperio_xml(
    path: Path, image_size: tuple[int, int], classes: Classes = UNNAMED, mpp: float | None = None
) -> Instances:
    """Read the regions of all layers as cells: the pixels whose centre is inside.

    A region's class is the name of its layer's first attribute, as in MoNuSAC, else the layer's own name. Free-hand
    outlines often cross themselves by a pixel or two: what is inside is told by the even-odd rule, and they are counted
    in `notes`.

    Args:
        path: the `.xml` file.
        image_size: (height, width) of the image at full resolution; what lies outside is cut off.
        classes: names of classes 1 … K; the file's own names in alphabetical order when it has none.
        mpp: micrometres per pixel; what the file says when None.

    Returns:
        Cells in the order of the file, score 1. Outlines around no pixel centre are left out and counted in `notes`.

    Raises:
        DataError: the file cannot be read, is no such XML, holds a class that is not in `classes`, or regions that are
            no outline: ellipses, arrows, rulers, and negative ones.
    """
    root = _load(path)
    regions = list(_regions(root, path))
    if not classes.names and not classes.blind:
        classes = Classes(tuple(sorted(_labels(root))))
    class_ids = [_class_id(region, classes) for region in regions]
    filled = [fill([[region.ring]], image_size) for region in regions]
    cells = Instances.from_masks(
        MaskCrops.from_crops(np.array([o for o, _ in filled], np.int64).reshape(-1, 2), [bits for _, bits in filled]),
        image_size,
        class_ids=np.array(class_ids, np.int64),
        mpp=_mpp(root, path) if mpp is None else mpp,
        class_names=classes.names,
    )
    n_crossing = sum(crossing([[region.ring]]) is not None for region in regions)
    note = f"{n_crossing} of {len(cells)} outlines cross themselves; inside is told by the even-odd rule"
    return without_empty(replace(cells, notes=(note,) if n_crossing else ()))


def aperio_classes(path: Path) -> set[str]:
    """Names of the classes in a file, also of those without a region."""
    return _labels(_load(path))


def _load(path: Path) -> ET.Element:
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError, LookupError, ValueError) as error:
        raise DataError(f"cannot read the Aperio XML {path}: {error}; export it again") from error
    if root.tag != "Annotations":
        raise DataError(f"{path} is no Aperio XML: expected the root element Annotations, got {root.tag}")
    return root


def _mpp(root: ET.Element, path: Path) -> float | None:
    given = root.get("MicronsPerPixel")
    if given is None:
        return None
    try:
        value = float(given)
    except ValueError:
        value = np.nan
    if not 0 < value < np.inf:
        raise DataError(f"{path}: MicronsPerPixel must be a number above 0, got {given!r}")
    return value


def _labels(root: ET.Element) -> set[str]:
    return {label for layer in root.iter("Annotation") if (label := _label(layer))}


def _label(layer: ET.Element) -> str:
    attribute = layer.find("Attributes/Attribute")
    return (attribute.get("Name", "") if attribute is not None else "") or layer.get("Name", "")


def _regions(root: ET.Element, path: Path) -> Iterator[_Region]:
    for i, layer in enumerate(root.iter("Annotation"), start=1):
        for region in layer.iter("Region"):
            where = f"{path}, layer {layer.get('Id', i)}, region {region.get('Id', '?')}"
            kind = region.get("Type", _FREEHAND)
            if kind not in _MIN_CORNERS or region.get("NegativeROA", "0") != "0":
                what = "a negative region" if kind in _MIN_CORNERS else f"one of Type {kind}"
                raise DataError(f"{where}: expected a free-hand (Type 0) or rectangular (Type 1) outline, got {what}")
            try:
                corners = [(float(v.attrib["X"]), float(v.attrib["Y"])) for v in region.iter("Vertex")]
            except (KeyError, ValueError) as error:
                raise DataError(f"{where}: every Vertex must have numbers X and Y, got {error}") from error
            if len(corners) < _MIN_CORNERS[kind] or not np.isfinite(corners).all():
                raise DataError(f"{where}: an outline has 3 or more finite corners, got {len(corners)}; delete it")
            yield _Region(np.array([*corners, corners[0]]), _label(layer), where)


def _class_id(region: _Region, classes: Classes) -> int:
    try:
        return classes.by_name(region.label)
    except DataError as error:
        raise DataError(f"{region.where}: {error}") from None
