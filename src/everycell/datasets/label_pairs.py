"""Label pairs: an image and one label image with the same stem, in `images/` and `labels/` or side by side.

Side by side means `<stem>.<suffix>` with `<stem>_masks.tif` (or .tiff, .png) in one folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from everycell.datasets.dataset import check_partners
from everycell.datasets.masks import read_mask
from everycell.errors import DataError
from everycell.io import image_stem, is_image_name, read_image
from everycell.structures import Sample

_MASK_SUFFIXES = (".tif", ".tiff", ".png", ".npy")


class LabelPairs:
    """Data set of images with one label image each, all cells of one class."""

    def __init__(self, folder: Path, class_name: str = "cell") -> None:
        if (folder / "images").is_dir() and (folder / "labels").is_dir():
            images = by_stem(path for path in (folder / "images").iterdir() if is_image_name(path))
            masks = by_stem(path for path in (folder / "labels").iterdir() if path.suffix.lower() in _MASK_SUFFIXES)
        else:
            images = by_stem(path for path in folder.iterdir() if is_image_name(path))
            masks = side_by_side_masks(folder)
        if not images:
            raise DataError(f"{folder} has no images; expected images/<stem>.png with labels/<stem>.tif")
        check_partners(folder, images, masks)
        self.names = tuple(sorted(images))
        self.class_names = (class_name,)
        self._files = tuple((images[name], masks[name]) for name in self.names)

    def __len__(self) -> int:
        return len(self.names)

    def image_path(self, i: int) -> Path:
        """File of image `i`."""
        return self._files[i][0]

    def load(self, i: int) -> Sample:
        """Read image `i` with its truth."""
        image_path, mask_path = self._files[i]
        image = read_image(image_path)
        labels, n, dropped = read_mask(mask_path, image.size)
        return Sample(self.names[i], image, labels[None], np.ones(n, np.int64), dropped)


def side_by_side_masks(folder: Path) -> dict[str, Path]:
    """Stem → `<stem>_masks.*` in `folder`."""
    masks = [path for path in folder.glob("*_masks.*") if path.suffix.lower() in _MASK_SUFFIXES]
    return {image_stem(path).removesuffix("_masks"): path for path in masks}


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Stem → file; hidden files are left out.

    Raises:
        DataError: two files have the same stem.
    """
    found: dict[str, Path] = {}
    for path in sorted(paths):
        stem = image_stem(path)
        if path.name.startswith("."):
            continue
        if stem in found:
            raise DataError(f"{found[stem]} and {path.name} have the same stem; keep one of them")
        found[stem] = path
    return found
