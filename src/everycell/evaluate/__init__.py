"""Comparison of predictions with the truth."""

from everycell.evaluate.evaluator import Evaluator as Evaluator
from everycell.evaluate.results import ClassErrors as ClassErrors
from everycell.evaluate.results import ClassResult as ClassResult
from everycell.evaluate.results import ComparedImage as ComparedImage
from everycell.evaluate.results import ConfusionMatrix as ConfusionMatrix
from everycell.evaluate.results import ErrorBreakdown as ErrorBreakdown
from everycell.evaluate.results import EvaluationResult as EvaluationResult
from everycell.evaluate.results import ImageResult as ImageResult
from everycell.evaluate.results import Rates as Rates
from everycell.evaluate.results import Stratum as Stratum
from everycell.evaluate.results import ThresholdResult as ThresholdResult
from everycell.evaluate.sources import Comparison as Comparison
from everycell.evaluate.sources import open_comparison as open_comparison
from everycell.evaluate.worst import worst_sheet as worst_sheet

__all__ = [
    "ClassErrors",
    "ClassResult",
    "ComparedImage",
    "Comparison",
    "ConfusionMatrix",
    "ErrorBreakdown",
    "EvaluationResult",
    "Evaluator",
    "ImageResult",
    "Rates",
    "Stratum",
    "ThresholdResult",
    "open_comparison",
    "worst_sheet",
]
