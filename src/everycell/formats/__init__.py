"""Cells to files and back: one file for each format."""

from everycell.formats.anndata_table import AnnDataWriter as AnnDataWriter
from everycell.formats.anndata_table import to_anndata as to_anndata
from everycell.formats.aperio_xml import aperio_classes as aperio_classes
from everycell.formats.aperio_xml import read_aperio_xml as read_aperio_xml
from everycell.formats.cell_files import CellFiles as CellFiles
from everycell.formats.cell_sets import CellSet as CellSet
from everycell.formats.cell_sets import cells_folder as cells_folder
from everycell.formats.cell_sets import find_coco_instances as find_coco_instances
from everycell.formats.cell_sets import open_cell_set as open_cell_set
from everycell.formats.cell_spool import SpoolingWriter as SpoolingWriter
from everycell.formats.classes import UNNAMED as UNNAMED
from everycell.formats.classes import Classes as Classes
from everycell.formats.coco import CocoWriter as CocoWriter
from everycell.formats.coco import coco_results as coco_results
from everycell.formats.coco import read_coco as read_coco
from everycell.formats.coco import write_coco as write_coco
from everycell.formats.coco_instances import CocoInstances as CocoInstances
from everycell.formats.imagej_roi import ImagejRoiWriter as ImagejRoiWriter
from everycell.formats.imagej_roi import read_imagej_rois as read_imagej_rois
from everycell.formats.imagej_roi import write_imagej_rois as write_imagej_rois
from everycell.formats.intensity import PixelReader as PixelReader
from everycell.formats.label_image import LabelImageWriter as LabelImageWriter
from everycell.formats.label_image import read_label_image as read_label_image
from everycell.formats.label_image import write_label_image as write_label_image
from everycell.formats.label_stack import LabelStack as LabelStack
from everycell.formats.label_zarr import LabelZarrWriter as LabelZarrWriter
from everycell.formats.leaderboard import LEADERBOARD_FILE as LEADERBOARD_FILE
from everycell.formats.leaderboard import LEADERBOARD_SCORE_THRESH as LEADERBOARD_SCORE_THRESH
from everycell.formats.leaderboard import read_leaderboard as read_leaderboard
from everycell.formats.leaderboard import write_leaderboard as write_leaderboard
from everycell.formats.leaderboard_check import LeaderboardCheck as LeaderboardCheck
from everycell.formats.leaderboard_check import check_leaderboard as check_leaderboard
from everycell.formats.neighbors import Neighborhood as Neighborhood
from everycell.formats.neighbors import add_neighbors as add_neighbors
from everycell.formats.pyramid import level_sizes as level_sizes
from everycell.formats.pyramid import write_pyramid as write_pyramid
from everycell.formats.qupath_geojson import GeoJsonWriter as GeoJsonWriter
from everycell.formats.qupath_geojson import read_geojson as read_geojson
from everycell.formats.qupath_geojson import write_geojson as write_geojson
from everycell.formats.stream import StreamWriter as StreamWriter
from everycell.formats.table import TableWriter as TableWriter
from everycell.formats.table import measure as measure
from everycell.formats.table import write_table as write_table

__all__ = [
    "LEADERBOARD_FILE",
    "LEADERBOARD_SCORE_THRESH",
    "UNNAMED",
    "AnnDataWriter",
    "CellFiles",
    "CellSet",
    "Classes",
    "CocoInstances",
    "CocoWriter",
    "GeoJsonWriter",
    "ImagejRoiWriter",
    "LabelImageWriter",
    "LabelStack",
    "LabelZarrWriter",
    "LeaderboardCheck",
    "Neighborhood",
    "PixelReader",
    "SpoolingWriter",
    "StreamWriter",
    "TableWriter",
    "add_neighbors",
    "aperio_classes",
    "cells_folder",
    "check_leaderboard",
    "coco_results",
    "find_coco_instances",
    "level_sizes",
    "measure",
    "open_cell_set",
    "read_aperio_xml",
    "read_coco",
    "read_geojson",
    "read_imagej_rois",
    "read_label_image",
    "read_leaderboard",
    "to_anndata",
    "write_coco",
    "write_geojson",
    "write_imagej_rois",
    "write_label_image",
    "write_leaderboard",
    "write_pyramid",
    "write_table",
]
