"""Measures of agreement between true and predicted cells."""

from everycell.metrics.aji import aggregated_jaccard_index as aggregated_jaccard_index
from everycell.metrics.average_precision import AveragePrecision as AveragePrecision
from everycell.metrics.average_precision import ClassPrecision as ClassPrecision
from everycell.metrics.average_precision import average_precision as average_precision
from everycell.metrics.dice import dice as dice
from everycell.metrics.matching import IOU_THRESHOLDS as IOU_THRESHOLDS
from everycell.metrics.matching import Counts as Counts
from everycell.metrics.matching import Matches as Matches
from everycell.metrics.matching import match as match
from everycell.metrics.overlap import Overlap as Overlap
from everycell.metrics.overlap import overlap as overlap
from everycell.metrics.overlap import overlap_of_labels as overlap_of_labels
from everycell.metrics.panoptic_quality import PanopticQuality as PanopticQuality
from everycell.metrics.panoptic_quality import panoptic_quality as panoptic_quality

__all__ = [
    "IOU_THRESHOLDS",
    "AveragePrecision",
    "ClassPrecision",
    "Counts",
    "Matches",
    "Overlap",
    "PanopticQuality",
    "aggregated_jaccard_index",
    "average_precision",
    "dice",
    "match",
    "overlap",
    "overlap_of_labels",
    "panoptic_quality",
]
