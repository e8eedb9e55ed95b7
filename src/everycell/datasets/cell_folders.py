"""Cell folders: `<name>/image.tif` with `class1.tif` … `classN.tif`, one instance mask a class.

A missing class file means that the image has no cell of that class.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everycell.datasets.dataset import check_partners
from everycell.datasets.masks import read_mask
from everycell.errors import DataError
from everycell.io import read_image
from everycell.structures import Sample

_CLASS_FILE = re.compile(r"class([1-9]\d*)\.tiff?$")


class CellFolders:
    """Data set of cell folders; the highest class number in it is the number of classes."""

    def __init__(self, folder: Path) -> None:
        children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
        self._class_files = {child.name: _class_files(child) for child in children}
        images = [child.name for child in children if (child / "image.tif").is_file()]
        if not images:
            raise DataError(f"{folder} has no <name>/image.tif; expected one folder an image")
        masked = [name for name, files in self._class_files.items() if files]
        check_partners(folder, images, masked, image_is="image.tif", mask_is="class<N>.tif")
        self.folder = folder
        self.names = tuple(images)
        highest = max(max(self._class_files[name]) for name in images)
        self.class_names = tuple(f"class{k}" for k in range(1, highest + 1))

    def __len__(self) -> int:
        return len(self.names)

    def image_path(self, i: int) -> Path:
        """File of image `i`."""
        return self.folder / self.names[i] / "image.tif"

    def load(self, i: int) -> Sample:
        """Read image `i` with its truth; cells are numbered class by class."""
        image = read_image(self.image_path(i))
        layers: list[NDArray[np.int32]] = []
        counts = np.zeros(len(self.class_names), np.int64)
        dropped = 0
        for class_id, path in sorted(self._class_files[self.names[i]].items()):
            labels, n, n_dropped = read_mask(path, image.size)
            dropped += n_dropped
            _add_layer(layers, labels, first=int(counts.sum()))
            counts[class_id - 1] = n
        class_ids = np.repeat(np.arange(1, len(counts) + 1), counts)
        return Sample(self.names[i], image, np.stack(layers), class_ids, dropped)


def _class_files(folder: Path) -> dict[int, Path]:
    """Class number → file."""
    return {int(match[1]): path for path in folder.iterdir() if (match := _CLASS_FILE.match(path.name))}


def _add_layer(layers: list[NDArray[np.int32]], labels: NDArray[np.int32], *, first: int) -> None:
    """Put `labels`, numbered on from `first`, into the first layer whose cells they do not touch, or a new one."""
    cells = labels > 0
    labels[cells] += first
    for layer in layers:
        if not (layer[cells] > 0).any():
            layer += labels
            return
    layers.append(labels)
