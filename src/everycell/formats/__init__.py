"""Cells to files and back: one file for each format."""

from everycell.formats.coco import coco_results as coco_results
from everycell.formats.coco import read_coco as read_coco
from everycell.formats.coco import write_coco as write_coco
from everycell.formats.label_image import read_label_image as read_label_image
from everycell.formats.label_image import write_label_image as write_label_image
from everycell.formats.qupath_geojson import read_geojson as read_geojson
from everycell.formats.qupath_geojson import write_geojson as write_geojson
from everycell.formats.table import measure as measure
from everycell.formats.table import write_table as write_table

__all__ = [
    "coco_results",
    "measure",
    "read_coco",
    "read_geojson",
    "read_label_image",
    "write_coco",
    "write_geojson",
    "write_label_image",
    "write_table",
]
