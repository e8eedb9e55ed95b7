"""Measures of agreement between true and predicted cells."""

from everycell.metrics.aji import aggregated_jaccard_index as aggregated_jaccard_index
from everycell.metrics.average_precision import AveragePrecision as AveragePrecision
from everycell.metrics.average_precision import ClassPrecision as ClassPrecision
from everycell.metrics.average_precision import average_precision as average_precision
from everycell.metrics.dice import dice as dice
from everycell.metrics.error_analysis import PRED_CATEGORIES as PRED_CATEGORIES
from everycell.metrics.error_analysis import TRUTH_CATEGORIES as TRUTH_CATEGORIES
from everycell.metrics.error_analysis import Category as Category
from everycell.metrics.error_analysis import CellErrors as CellErrors
from everycell.metrics.error_analysis import ImageErrors as ImageErrors
from everycell.metrics.error_analysis import analyse_errors as analyse_errors
from everycell.metrics.error_analysis import confusion_matrix as confusion_matrix
from everycell.metrics.matching import IOU_THRESHOLDS as IOU_THRESHOLDS
from everycell.metrics.matching import Counts as Counts
from everycell.metrics.matching import Matches as Matches
from everycell.metrics.matching import match as match
from everycell.metrics.overlap import Overlap as Overlap
from everycell.metrics.overlap import overlap as overlap
from everycell.metrics.overlap import overlap_of_labels as overlap_of_labels
from everycell.metrics.panoptic_quality import PanopticQuality as PanopticQuality
from everycell.metrics.panoptic_quality import panoptic_quality as panoptic_quality
from everycell.metrics.surroundings import Surroundings as Surroundings
from everycell.metrics.surroundings import surroundings as surroundings

__all__ = [
    "IOU_THRESHOLDS",
    "PRED_CATEGORIES",
    "TRUTH_CATEGORIES",
    "AveragePrecision",
    "Category",
    "CellErrors",
    "ClassPrecision",
    "Counts",
    "ImageErrors",
    "Matches",
    "Overlap",
    "PanopticQuality",
    "Surroundings",
    "aggregated_jaccard_index",
    "analyse_errors",
    "average_precision",
    "confusion_matrix",
    "dice",
    "match",
    "overlap",
    "overlap_of_labels",
    "panoptic_quality",
    "surroundings",
]
