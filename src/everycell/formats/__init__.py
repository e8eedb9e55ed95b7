"""Cells to files and back: one file for each format."""

from everycell.formats.cell_files import find_cell_files as find_cell_files
from everycell.formats.cell_files import read_cell_file as read_cell_file
from everycell.formats.coco import coco_results as coco_results
from everycell.formats.coco import read_coco as read_coco
from everycell.formats.coco import write_coco as write_coco
from everycell.formats.label_image import read_label_image as read_label_image
from everycell.formats.label_image import write_label_image as write_label_image
from everycell.formats.leaderboard import LEADERBOARD_FILE as LEADERBOARD_FILE
from everycell.formats.leaderboard import LEADERBOARD_SCORE_THRESH as LEADERBOARD_SCORE_THRESH
from everycell.formats.leaderboard import read_leaderboard as read_leaderboard
from everycell.formats.leaderboard import write_leaderboard as write_leaderboard
from everycell.formats.leaderboard_check import LeaderboardCheck as LeaderboardCheck
from everycell.formats.leaderboard_check import check_leaderboard as check_leaderboard
from everycell.formats.qupath_geojson import geojson_classes as geojson_classes
from everycell.formats.qupath_geojson import read_geojson as read_geojson
from everycell.formats.qupath_geojson import write_geojson as write_geojson
from everycell.formats.table import measure as measure
from everycell.formats.table import write_table as write_table

__all__ = [
    "LEADERBOARD_FILE",
    "LEADERBOARD_SCORE_THRESH",
    "LeaderboardCheck",
    "check_leaderboard",
    "coco_results",
    "find_cell_files",
    "geojson_classes",
    "measure",
    "read_cell_file",
    "read_coco",
    "read_geojson",
    "read_label_image",
    "read_leaderboard",
    "write_coco",
    "write_geojson",
    "write_label_image",
    "write_leaderboard",
    "write_table",
]
