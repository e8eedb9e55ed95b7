"""Comparison of predictions with the truth."""

from everycell.evaluate.evaluator import Evaluator as Evaluator
from everycell.evaluate.results import ClassResult as ClassResult
from everycell.evaluate.results import EvaluationResult as EvaluationResult
from everycell.evaluate.results import ImageResult as ImageResult
from everycell.evaluate.results import Rates as Rates
from everycell.evaluate.results import ThresholdResult as ThresholdResult
from everycell.evaluate.sources import Comparison as Comparison
from everycell.evaluate.sources import open_comparison as open_comparison

__all__ = [
    "ClassResult",
    "Comparison",
    "EvaluationResult",
    "Evaluator",
    "ImageResult",
    "Rates",
    "ThresholdResult",
    "open_comparison",
]
