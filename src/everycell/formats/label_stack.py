"""Typed label images of many images in one `.npy` file, as PanNuke and CoNIC are published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.formats.classes import UNNAMED, Classes, ToldBy
from everycell.formats.typed_labels import cells_of_array, has_typed_shape
from everycell.structures import Instances


@dataclass(frozen=True)
class LabelStack:
    """An array [N, H, W, C] of which each image is one that `cells_of_array` reads; only one is in memory at a time.

    Attributes:
        path: the `.npy` file.
        names: of the images: their places, from 0.
        groups: tissue by name, from a `types.npy` beside the file.
    """

    path: Path
    names: tuple[str, ...]
    groups: Mapping[str, str] = field(default_factory=dict)

    told_by: ClassVar[ToldBy] = "id"

    @classmethod
    def open(cls, path: Path) -> LabelStack:
        """Look at the shape of the array in `path`, and read the tissues.

        Raises:
            DataError: it is no such array, or `types.npy` has another length.
        """
        shape = map_array(path).shape
        if len(shape) != 4 or not has_typed_shape(shape[1:]):
            raise DataError(
                f"{path}: expected an array [N, H, W, 2] of instances and classes, or [N, H, W, C], one instance map "
                f"for each class and the background last, got shape {shape}"
            )
        names = tuple(str(i) for i in range(shape[0]))
        types = path.with_name("types.npy")
        if not types.is_file():
            return cls(path, names)
        tissues = np.asarray(map_array(types))
        if tissues.shape != (len(names),):
            raise DataError(f"{types}: expected one tissue for each of the {len(names)} images, got {tissues.shape}")
        return cls(path, names, dict(zip(names, tissues.astype(str).tolist(), strict=True)))

    def class_names(self) -> tuple[str, ...]:
        """Class 1 and so on, one for each map of instances, or up to the highest in the maps of classes."""
        array = map_array(self.path)
        n = max(int(image[..., 1].max()) for image in array) if array.shape[3] == 2 else array.shape[3] - 1
        return tuple(f"class{k}" for k in range(1, n + 1))

    def read(
        self, name: str, size: tuple[int, int] | None = None, classes: Classes = UNNAMED, mpp: float | None = None
    ) -> Instances:
        """Cells of the image `name`."""
        array = np.asarray(map_array(self.path)[int(name)])
        if size not in (None, array.shape[:2]):
            raise DataError(
                f"{self.path} is for images of (height, width) {array.shape[:2]}, but image {name} has {size}"
            )
        return cells_of_array(array, f"{self.path}, image {name}", classes, mpp)


def map_array(path: Path) -> NDArray[Any]:
    """The array in a `.npy` file, read where it is looked at.

    Raises:
        DataError: the file cannot be read, or holds Python objects, which are never loaded.
    """
    try:
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"cannot read the array {path}: {error}; save plain numbers or text (array.astype(…)) with np.save"
        ) from error
