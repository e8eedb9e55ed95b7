"""Comparison of predictions with the truth."""

from everycell.evaluate.evaluator import Evaluator as Evaluator
from everycell.evaluate.groups import read_groups as read_groups
from everycell.evaluate.image import ComparedImage as ComparedImage
from everycell.evaluate.image import EvaluationSettings as EvaluationSettings
from everycell.evaluate.image import compare_image as compare_image
from everycell.evaluate.intervals import compare_predictions as compare_predictions
from everycell.evaluate.parallel import compare_all as compare_all
from everycell.evaluate.parallel import usual_workers as usual_workers
from everycell.evaluate.results import BestThreshold as BestThreshold
from everycell.evaluate.results import BoundaryResult as BoundaryResult
from everycell.evaluate.results import CentroidResult as CentroidResult
from everycell.evaluate.results import ClassErrors as ClassErrors
from everycell.evaluate.results import ClassResult as ClassResult
from everycell.evaluate.results import ConfusionMatrix as ConfusionMatrix
from everycell.evaluate.results import ErrorBreakdown as ErrorBreakdown
from everycell.evaluate.results import EvaluationResult as EvaluationResult
from everycell.evaluate.results import ImageResult as ImageResult
from everycell.evaluate.results import Length as Length
from everycell.evaluate.results import PairedComparison as PairedComparison
from everycell.evaluate.results import PanopticAverages as PanopticAverages
from everycell.evaluate.results import Rates as Rates
from everycell.evaluate.results import Stratum as Stratum
from everycell.evaluate.results import ThresholdResult as ThresholdResult
from everycell.evaluate.sources import Comparison as Comparison
from everycell.evaluate.sources import open_comparison as open_comparison
from everycell.evaluate.worst import worst_sheet as worst_sheet

__all__ = [
    "BestThreshold",
    "BoundaryResult",
    "CentroidResult",
    "ClassErrors",
    "ClassResult",
    "ComparedImage",
    "Comparison",
    "ConfusionMatrix",
    "ErrorBreakdown",
    "EvaluationResult",
    "EvaluationSettings",
    "Evaluator",
    "ImageResult",
    "Length",
    "PairedComparison",
    "PanopticAverages",
    "Rates",
    "Stratum",
    "ThresholdResult",
    "compare_all",
    "compare_image",
    "compare_predictions",
    "open_comparison",
    "read_groups",
    "usual_workers",
    "worst_sheet",
]
