"""Measures of agreement between true and predicted cells."""

from everycell.metrics.aji import aggregated_jaccard_index as aggregated_jaccard_index
from everycell.metrics.aji import aggregated_jaccard_index_plus as aggregated_jaccard_index_plus
from everycell.metrics.average_precision import AveragePrecision as AveragePrecision
from everycell.metrics.average_precision import ClassPrecision as ClassPrecision
from everycell.metrics.average_precision import RankedCells as RankedCells
from everycell.metrics.average_precision import average_precision as average_precision
from everycell.metrics.average_precision import average_ranked as average_ranked
from everycell.metrics.average_precision import rank_cells as rank_cells
from everycell.metrics.average_precision import weighted_ap50 as weighted_ap50
from everycell.metrics.averaging import ClassCounts as ClassCounts
from everycell.metrics.averaging import PQAverages as PQAverages
from everycell.metrics.averaging import average_pq as average_pq
from everycell.metrics.averaging import class_counts as class_counts
from everycell.metrics.bootstrap import Comparison as Comparison
from everycell.metrics.bootstrap import Interval as Interval
from everycell.metrics.bootstrap import Statistic as Statistic
from everycell.metrics.bootstrap import bootstrap_interval as bootstrap_interval
from everycell.metrics.bootstrap import compare_paired as compare_paired
from everycell.metrics.bootstrap import mean_terms as mean_terms
from everycell.metrics.bootstrap import ratio as ratio
from everycell.metrics.boundary import BoundaryAgreement as BoundaryAgreement
from everycell.metrics.boundary import boundary_agreement as boundary_agreement
from everycell.metrics.calibration import Calibration as Calibration
from everycell.metrics.calibration import ReliabilityBin as ReliabilityBin
from everycell.metrics.calibration import calibration as calibration
from everycell.metrics.centroids import CentroidPairs as CentroidPairs
from everycell.metrics.centroids import CentroidScores as CentroidScores
from everycell.metrics.centroids import centroid_scores as centroid_scores
from everycell.metrics.centroids import pair_centroids as pair_centroids
from everycell.metrics.counting import CountError as CountError
from everycell.metrics.counting import count_error as count_error
from everycell.metrics.counting import count_errors as count_errors
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
from everycell.metrics.overlap import Overlaps as Overlaps
from everycell.metrics.overlap import overlap as overlap
from everycell.metrics.overlap import overlap_of_labels as overlap_of_labels
from everycell.metrics.overlap import overlaps as overlaps
from everycell.metrics.panoptic_quality import PanopticQuality as PanopticQuality
from everycell.metrics.panoptic_quality import panoptic_quality as panoptic_quality
from everycell.metrics.surroundings import Surroundings as Surroundings
from everycell.metrics.surroundings import surroundings as surroundings
from everycell.metrics.thresholds import ScoreHits as ScoreHits
from everycell.metrics.thresholds import ThresholdCurve as ThresholdCurve
from everycell.metrics.thresholds import class_threshold_curves as class_threshold_curves
from everycell.metrics.thresholds import image_hits as image_hits
from everycell.metrics.thresholds import score_hits as score_hits
from everycell.metrics.thresholds import threshold_curve as threshold_curve

__all__ = [
    "IOU_THRESHOLDS",
    "PRED_CATEGORIES",
    "TRUTH_CATEGORIES",
    "AveragePrecision",
    "BoundaryAgreement",
    "Calibration",
    "Category",
    "CellErrors",
    "CentroidPairs",
    "CentroidScores",
    "ClassCounts",
    "ClassPrecision",
    "Comparison",
    "CountError",
    "Counts",
    "ImageErrors",
    "Interval",
    "Matches",
    "Overlap",
    "Overlaps",
    "PQAverages",
    "PanopticQuality",
    "RankedCells",
    "ReliabilityBin",
    "ScoreHits",
    "Statistic",
    "Surroundings",
    "ThresholdCurve",
    "aggregated_jaccard_index",
    "aggregated_jaccard_index_plus",
    "analyse_errors",
    "average_pq",
    "average_precision",
    "average_ranked",
    "bootstrap_interval",
    "boundary_agreement",
    "calibration",
    "centroid_scores",
    "class_counts",
    "class_threshold_curves",
    "compare_paired",
    "confusion_matrix",
    "count_error",
    "count_errors",
    "dice",
    "image_hits",
    "match",
    "mean_terms",
    "overlap",
    "overlap_of_labels",
    "overlaps",
    "pair_centroids",
    "panoptic_quality",
    "rank_cells",
    "ratio",
    "score_hits",
    "surroundings",
    "threshold_curve",
    "weighted_ap50",
]
