"""Zip archives of ImageJ regions of interest, which ImageJ's and Fiji's ROI Manager opens.

A cell in one part without holes is a "traced" ROI, as ImageJ's wand makes it: corners of pixels, joined by straight
lines. Holes and further parts make it a "composite" ROI, whose area and intensities ImageJ measures without the holes.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

from everycell.errors import DataError
from everycell.files import atomic_write
from everycell.formats.classes import UNNAMED, Classes
from everycell.formats.outlines import Polygon, fill, trace, without_empty
from everycell.formats.stream import AtomicWriter
from everycell.structures import Instances, MaskCrops
from everycell.structures.colors import class_color

if TYPE_CHECKING:
    import pandas as pd

_MOVE, _LINE, _CLOSE = 0, 1, 4
_MAX_INTEGER = 32_767  # what ImageJ reads from 16 bits without doubt; beyond it corners are 32-bit floats
_AREAS = (ROI_TYPE.POLYGON, ROI_TYPE.RECT, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
_DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    RuntimeError,
    MemoryError,
    AssertionError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


class ImagejRoiWriter(AtomicWriter):
    """Writes ROIs one by one, each named by its cell's number.

    Properties of a ROI are `class` and `score`; its group is the class (1 … K), its colour that of the class.
    """

    def __init__(self, path: Path) -> None:
        """Begin the `.zip` file `path`."""
        super().__init__(atomic_write(path))
        file = self._open_file()
        with self._or_give_up():
            self._archive = self._stack.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED))

    def _write(self, batch: Instances, table: pd.DataFrame | None) -> None:
        for i, parts in enumerate(trace(batch.masks)):
            if not parts:
                continue
            roi = _roi(parts)
            roi.name = str(self.n_cells + i + 1)
            class_id = int(batch.class_ids[i])
            roi.props = f"class: {batch.class_name(class_id)}\nscore: {float(str(batch.scores[i]))}\n"
            roi.group = class_id
            roi.stroke_color = bytes((255, *class_color(class_id)))
            # An entry without a date: the same cells give the same bytes.
            entry = zipfile.ZipInfo(f"{roi.name}.roi")
            self._archive.writestr(entry, roi.tobytes(), zipfile.ZIP_DEFLATED)

    def _finish(self) -> None:
        pass  # the archive's directory is written when the stack closes it


def write_imagej_rois(instances: Instances, path: Path) -> None:
    """Write one ROI for each cell; a mask without pixels has none. See `ImagejRoiWriter`."""
    with ImagejRoiWriter(path) as writer:
        writer.write(instances)


def _roi(parts: list[Polygon]) -> ImagejRoi:
    rings = [np.array(ring[:-1], np.int32) for ring in chain.from_iterable(parts)]
    corners = np.concatenate(rings)
    left_top = corners.min(axis=0)
    if len(rings) == 1:
        roi = ImagejRoi(roitype=ROI_TYPE.TRACED, n_coordinates=len(corners), integer_coordinates=corners - left_top)
        if corners.max() > _MAX_INTEGER:
            roi.options, roi.subpixel_coordinates = ROI_OPTIONS.SUB_PIXEL_RESOLUTION, corners.astype(np.float32)
    else:
        path = np.concatenate([_path(ring) for ring in rings])
        roi = ImagejRoi(roitype=ROI_TYPE.RECT, multi_coordinates=path, shape_roi_size=len(path))
    roi.left, roi.top = left_top.tolist()
    roi.right, roi.bottom = corners.max(axis=0).tolist()
    return roi


def _path(ring: NDArray[Any]) -> NDArray[np.float32]:
    """A ring as Java's path iterator tells it: move, lines, close."""
    steps = np.insert(ring.astype(np.float32), 0, _LINE, axis=1)
    steps[0, 0] = _MOVE
    return np.append(steps.ravel(), np.float32(_CLOSE))


def read_imagej_rois(
    path: Path, image_size: tuple[int, int], classes: Classes = UNNAMED, mpp: float | None = None
) -> Instances:
    """Read ROIs of any tool as cells: the pixels whose centre is inside, by the even-odd rule.

    Args:
        path: a `.zip` of ROIs, or one `.roi`.
        image_size: (height, width) of the image; what lies outside is cut off.
        classes: names of classes 1 … K; those in the file's properties, in alphabetical order, when it has none.
        mpp: micrometres per pixel of the image.

    Returns:
        Cells in the order of the file, score 1 where no property says it. ROIs around no pixel centre are left out and
        counted in `notes`.

    Raises:
        DataError: the file cannot be read, holds ROIs without an area (points, lines), ovals, which ImageJ draws in
            its own way, or a class that is not in `classes`.
    """
    rois = _load(path)
    labels = [properties.get("class", "") for _, _, properties in rois]
    if not classes.names and not classes.blind:
        classes = Classes(tuple(sorted(set(labels) - {""})))
    class_ids, scores, filled = [], [], []
    for (name, rings, properties), label in zip(rois, labels, strict=True):
        try:
            class_ids.append(classes.by_name(label))
            scores.append(_score(properties.get("score", "1")))
        except DataError as error:
            raise DataError(f"{path}, ROI {name}: {error}") from None
        filled.append(fill([rings], image_size))
    cells = Instances.from_masks(
        MaskCrops.from_crops(np.array([o for o, _ in filled], np.int64).reshape(-1, 2), [bits for _, bits in filled]),
        image_size,
        scores=np.array(scores, np.float32),
        class_ids=np.array(class_ids, np.int64),
        mpp=mpp,
        class_names=classes.names,
    )
    return without_empty(cells)


def imagej_roi_classes(path: Path) -> set[str]:
    """Names of the classes in a file; ROIs without the property `class` have none."""
    return {properties["class"] for _, _, properties in _load(path) if "class" in properties}


def _load(path: Path) -> list[tuple[str, list[NDArray[np.float64]], dict[str, str]]]:
    """Name, closed rings and properties of each ROI."""
    try:
        rois = [(roi, roi.coordinates(multi=True)) for roi in _each(path)]
    except _DAMAGED as error:
        raise DataError(f"cannot read the ImageJ ROIs {path}: {error}; save them again in the ROI Manager") from error
    loaded = []
    for i, (roi, rings) in enumerate(rois, start=1):
        name = roi.name or str(i)
        if roi.roitype not in _AREAS:
            raise DataError(
                f"{path}, ROI {name}: expected a polygon, freehand, traced, rectangle or composite ROI, got "
                f"{roi.roitype.name.lower()}; in ImageJ, Edit > Selection > Create Mask and the wand make one"
            )
        if not rings or not all(len(ring) > 2 and np.isfinite(ring).all() for ring in rings):
            raise DataError(f"{path}, ROI {name}: an outline has 3 or more finite corners; draw it again")
        pairs = (line.partition(":")[::2] for line in roi.props.splitlines())
        properties = {key.strip(): value.strip() for key, value in pairs}
        loaded.append((name, [np.concatenate([ring, ring[:1]]).astype(np.float64) for ring in rings], properties))
    return loaded


def _each(path: Path) -> list[ImagejRoi]:
    if not zipfile.is_zipfile(path):
        return [ImagejRoi.frombytes(path.read_bytes())]
    with zipfile.ZipFile(path) as archive:
        return [ImagejRoi.frombytes(archive.read(name)) for name in archive.namelist() if name.endswith(".roi")]


def _score(given: str) -> float:
    try:
        score = float(given)
    except ValueError:
        score = np.nan
    if not 0 <= score <= 1:
        raise DataError(f"the property score must be a number in 0 … 1, got {given!r}")
    return score
