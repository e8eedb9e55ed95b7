"""Layouts on disk → `Sample`."""

from everycell.datasets.aperio import AperioDataset as AperioDataset
from everycell.datasets.cell_folders import CellFolders as CellFolders
from everycell.datasets.coco import CocoDataset as CocoDataset
from everycell.datasets.coco import find_coco_image as find_coco_image
from everycell.datasets.dataset import Dataset as Dataset
from everycell.datasets.dataset import JoinedDataset as JoinedDataset
from everycell.datasets.dataset import Subset as Subset
from everycell.datasets.id_map import ImageId as ImageId
from everycell.datasets.id_map import id_map_faults as id_map_faults
from everycell.datasets.id_map import read_id_map as read_id_map
from everycell.datasets.label_pairs import LabelPairs as LabelPairs
from everycell.datasets.layouts import is_dataset as is_dataset
from everycell.datasets.layouts import open_dataset as open_dataset
from everycell.datasets.masks import MIN_INSTANCE_PX as MIN_INSTANCE_PX
from everycell.datasets.splits import near_duplicate_groups as near_duplicate_groups
from everycell.datasets.splits import split as split
from everycell.datasets.splits import thumbnail as thumbnail
from everycell.datasets.synthetic import synthetic_sample as synthetic_sample

__all__ = [
    "MIN_INSTANCE_PX",
    "AperioDataset",
    "CellFolders",
    "CocoDataset",
    "Dataset",
    "ImageId",
    "JoinedDataset",
    "LabelPairs",
    "Subset",
    "find_coco_image",
    "id_map_faults",
    "is_dataset",
    "near_duplicate_groups",
    "open_dataset",
    "read_id_map",
    "split",
    "synthetic_sample",
    "thumbnail",
]
