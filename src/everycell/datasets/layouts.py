"""Tell the layout of a data set by looking at its folder."""

from __future__ import annotations

from pathlib import Path

from everycell.datasets.cell_folders import CellFolders
from everycell.datasets.dataset import Dataset
from everycell.datasets.label_pairs import LabelPairs, side_by_side_masks
from everycell.errors import DataError


def open_dataset(folder: str | Path) -> Dataset:
    """Open a folder of cell folders or of label pairs; nothing but names is read yet.

    Raises:
        DataError: no such folder, neither layout, or files without their partners.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}; expected the folder that directly holds the samples")
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        return LabelPairs(folder)
    if any(folder.glob("*/image.tif")) or any(folder.glob("*/class*.tif")):
        return CellFolders(folder)
    if side_by_side_masks(folder):
        return LabelPairs(folder)
    raise DataError(
        f"{folder} is no data set that everycell knows: expected <name>/image.tif with <name>/class1.tif …, or "
        "images/<stem>.png with labels/<stem>.tif, or <stem>.png with <stem>_masks.tif; "
        "name the folder that directly holds the samples"
    )
