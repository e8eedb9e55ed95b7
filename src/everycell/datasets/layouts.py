"""Tell the layout of a data set by looking at its folder."""

from __future__ import annotations

from pathlib import Path

from everycell.datasets.aperio import AperioDataset, aperio_files
from everycell.datasets.cell_folders import CellFolders
from everycell.datasets.coco import CocoDataset
from everycell.datasets.dataset import Dataset
from everycell.datasets.label_pairs import LabelPairs, side_by_side_masks
from everycell.errors import DataError
from everycell.formats import CocoInstances, cells_folder, find_coco_instances


def open_dataset(folder: str | Path) -> Dataset:
    """Open a folder of cell folders, label pairs, Aperio's outlines or COCO instances.

    Of images nothing but names is read yet.

    Args:
        folder: that directly holds the samples, or a JSON file of COCO instances.

    Raises:
        DataError: no such folder, no known layout, or files without their partners.
    """
    folder = Path(folder)
    if folder.suffix == ".json" and folder.is_file():
        return CocoDataset(CocoInstances.open(folder))
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}; expected the folder that directly holds the samples")
    if layout := _layout(folder):
        return layout(folder)
    if instances := find_coco_instances(cells_folder(folder)):
        return CocoDataset(instances)
    raise DataError(
        f"{folder} is no data set that everycell knows: expected <name>/image.tif with <name>/class1.tif …, or "
        "images/<stem>.png with labels/<stem>.tif, or <stem>.png with <stem>_masks.tif, or <stem>.svs "
        "with Aperio's <stem>.xml, or one .json of COCO instances; name the folder that directly holds the samples"
    )


def is_dataset(folder: Path) -> bool:
    """Whether `folder` holds cell folders with images, label pairs, or images with Aperio's outlines."""
    return folder.is_dir() and _layout(folder) is not None


def _layout(folder: Path) -> type[LabelPairs] | type[CellFolders] | type[AperioDataset] | None:
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        return LabelPairs
    if any(folder.glob("*/image.tif")) or any(folder.glob("*/class*.tif")):
        return CellFolders
    if side_by_side_masks(folder):
        return LabelPairs
    images, outlines = aperio_files(folder)
    return AperioDataset if images.keys() & outlines.keys() else None
