"""Label images with a class for each cell: arrays of instance maps, and the `.mat` files of HoVer-Net and CoNSeP.

(Graham et al. 2019, "HoVer-Net", Medical Image Analysis 58; Gamper et al. 2019, "PanNuke", ECDP; Graham et al. 2021,
"CoNIC", arXiv 2111.14485.)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy import ndimage
from scipy.io.matlab import MatReadError

from everycell.errors import DataError
from everycell.formats.classes import UNNAMED, Classes
from everycell.formats.label_image import check_labels
from everycell.structures import Instances, MaskCrops

MIN_CLASS_CHANNELS = 5
"""Fewest channels of an array with one instance map for each class; 3 and 4 are those of a photo."""

_DAMAGED = (OSError, ValueError, TypeError, KeyError, IndexError, MemoryError, MatReadError, struct.error, zlib.error)


def has_typed_shape(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape, [H, W, C], is one that `cells_of_array` reads."""
    return len(shape) == 3 and (shape[2] == 2 or shape[2] >= MIN_CLASS_CHANNELS)


def cells_of_array(array: NDArray[Any], where: str, classes: Classes = UNNAMED, mpp: float | None = None) -> Instances:
    """Cells of one array.

    Args:
        array: whole numbers of any type, [H, W, 2], the instance map and the class map (as in CoNIC), or [H, W, C], one
            instance map for each of C - 1 classes and the background, which is not looked at (as in PanNuke). A number
            that is in the maps of two classes is two cells.
        where: what messages begin with.
        classes: what the numbers of classes stand for.
        mpp: micrometres per pixel.

    Raises:
        DataError: the array has another shape, holds other numbers, or cells without one certain class.
    """
    if not has_typed_shape(array.shape):
        raise DataError(
            f"{where}: expected an array [H, W, 2] of instances and classes, or [H, W, C] with C ≥ "
            f"{MIN_CLASS_CHANNELS}, one instance map for each class and the background last, got shape {array.shape}"
        )
    if array.shape[2] == 2:
        return _with_classes(array[..., 0], array[..., 1], where, classes, mpp)
    layers = [MaskCrops.from_labels(check_labels(array[..., k], where))[0] for k in range(array.shape[2] - 1)]
    class_ids = [_class_of(k, classes, where) for k, layer in enumerate(layers, start=1) if len(layer)]
    return Instances.from_masks(
        MaskCrops(np.concatenate([layer.boxes for layer in layers]), np.concatenate([layer.bits for layer in layers])),
        (array.shape[0], array.shape[1]),
        class_ids=np.repeat(np.array(class_ids, np.int64), [len(layer) for layer in layers if len(layer)]),
        mpp=mpp,
        class_names=classes.names,
    )


def mat_has_classes(path: Path) -> bool:
    """Whether a `.mat` file says the cells' classes.

    Raises:
        DataError: it cannot be read, or holds no `inst_map`.
    """
    return bool({"inst_type", "type_map"} & _load(path, ()).keys())


def highest_class(path: Path) -> int:
    """Highest class number in a `.mat` file, 0 without cells."""
    content = _load(path, ("inst_type", "type_map"))
    types = content["type_map"] if content.get("inst_type") is None else content["inst_type"]
    return max(_whole(types, f"{path}, classes"), default=0)


def read_mat(path: Path, classes: Classes = UNNAMED, mpp: float | None = None) -> Instances:
    """Read a `.mat` file of HoVer-Net (up to MATLAB 7.2).

    `inst_map` holds the cells. Their classes are in `inst_type`, in the order of `inst_uid` if that is there, else of
    ascending values in `inst_map`; or, without it, in `type_map`.

    Args:
        path: the file.
        classes: what the numbers of classes stand for; blind where the file has none.
        mpp: micrometres per pixel of the image.

    Raises:
        DataError: the file cannot be read, lacks `inst_map` or the classes, or its variables do not belong together.
    """
    content = _load(path, ("inst_map", "inst_type", "inst_uid", "type_map"))
    labels, types = content["inst_map"], content.get("inst_type")
    if types is None and not classes.blind:
        if "type_map" not in content:
            raise DataError(f"{path} has neither inst_type nor type_map, so its cells have no classes; export them too")
        return _with_classes(labels, content["type_map"], str(path), classes, mpp)
    labels = check_labels(labels, f"{path}, inst_map")
    if types is None or classes.blind:
        return replace(Instances.from_labels(labels, mpp=mpp), class_names=classes.names)
    masks, values = MaskCrops.from_labels(labels)
    types, owners = np.asarray(types).ravel(), np.asarray(content.get("inst_uid", values)).ravel()
    if len(owners) != len(types) or sorted(owners.tolist()) != values.tolist():
        raise DataError(
            f"{path}: inst_type must have one class for each of the {len(values)} cells in inst_map, got {len(types)}"
            + (f" for the {len(owners)} cells in inst_uid" if "inst_uid" in content else "")
        )
    class_ids = _class_ids(types[np.argsort(owners)], values, str(path), classes)
    return Instances.from_masks(masks, labels.shape, class_ids=class_ids, mpp=mpp, class_names=classes.names)


def _with_classes(
    labels: NDArray[Any], class_map: NDArray[Any], where: str, classes: Classes, mpp: float | None
) -> Instances:
    """Cells of an instance map whose classes stand in a second map of the same size."""
    labels, class_map = check_labels(labels, f"{where}, instances"), check_labels(class_map, f"{where}, classes")
    if class_map.shape != labels.shape:
        raise DataError(f"{where}: the map of instances has shape {labels.shape}, that of classes {class_map.shape}")
    masks, values = MaskCrops.from_labels(labels)
    lowest, highest = (np.asarray(of(class_map, labels, values)) for of in (ndimage.minimum, ndimage.maximum))
    if (mixed := np.flatnonzero(lowest != highest)).size and not classes.blind:
        i = mixed[0]
        raise DataError(f"{where}: cell {values[i]} has classes {lowest[i]:g} and {highest[i]:g}; expected one")
    class_ids = _class_ids(highest, values, where, classes)
    return Instances.from_masks(masks, labels.shape, class_ids=class_ids, mpp=mpp, class_names=classes.names)


def _class_ids(types: NDArray[Any], values: NDArray[np.int64], where: str, classes: Classes) -> NDArray[np.int64]:
    """Class of each cell, int64 [N]; `values` are the cells' numbers, for messages."""
    numbers = _whole(types, f"{where}, classes")
    of_cells = (_class_of(k, classes, f"{where}, cell {i}") for k, i in zip(numbers, values.tolist(), strict=True))
    return np.fromiter(of_cells, np.int64, len(values))


def _whole(types: NDArray[Any], where: str) -> list[int]:
    numbers: list[int] = check_labels(np.reshape(types, (1, -1)), where)[0].tolist() if np.size(types) else []
    return numbers


def _class_of(given: int, classes: Classes, where: str) -> int:
    try:
        return classes.by_id(given)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _load(path: Path, variables: Collection[str]) -> dict[str, Any]:
    """`variables` of a `.mat` file that are there; of the others the name alone, with None."""
    try:
        names = [name for name, _, _ in scipy.io.whosmat(path)]
        content = scipy.io.loadmat(path, variable_names=variables) if variables else {}
    except NotImplementedError as error:
        raise DataError(
            f"{path} is a MATLAB 7.3 file (HDF5), which is not read; save it again with save(…, '-v7'), or as .npy"
        ) from error
    except _DAMAGED as error:
        raise DataError(f"cannot read {path}: {error}; export it again") from error
    if "inst_map" not in names:
        raise DataError(f"{path} must hold inst_map, the map of cells, got {', '.join(names) or 'no variable'}")
    return {name: content.get(name) for name in names}
