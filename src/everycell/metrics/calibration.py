"""Calibration: of the predictions that score 0.8, are 80 % right?

Reliability curve and expected calibration error (ECE) as in Naeini et al. 2015, AAAI, and Guo et al. 2017, ICML. For
detection "right" means a match with a true cell, so scores are held against precision (D-ECE of Küppers et al. 2020,
CVPR workshops, by score alone). Missed cells have no score and do not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions with low < score ≤ high; the first bin also holds its lower end.

    Attributes:
        low: in [0, 1].
        high: in [0, 1].
        n: predictions.
        mean_score: NaN without predictions.
        precision: share of them that are right; NaN without predictions.
    """

    low: float
    high: float
    n: int
    mean_score: float
    precision: float


@dataclass(frozen=True)
class Calibration:
    """Reliability curve and what it sums up to.

    Attributes:
        bins: by ascending score.
        ece: mean over predictions of |precision - mean score| of their bin, in [0, 1]; NaN without predictions.
        n: predictions.
    """

    bins: tuple[ReliabilityBin, ...]
    ece: float
    n: int


def calibration(
    scores: NDArray[np.floating], hits: NDArray[np.bool_], *, n_bins: int = 10, equal_mass: bool = False
) -> Calibration:
    """Compare scores with how often they are right.

    Args:
        scores: [M], in [0, 1].
        hits: bool [M], whether each prediction is right, from `score_hits`.
        n_bins: at least 1.
        equal_mass: bins of equally many predictions over the range of the scores, not of equal width over [0, 1]. Equal
            scores stay in one bin, so there can be fewer bins.
    """
    assert scores.shape == hits.shape and n_bins > 0
    assert ((scores >= 0) & (scores <= 1)).all()
    values = scores.astype(np.float64)
    edges = _equal_mass_edges(values, n_bins) if equal_mass else np.linspace(0, 1, n_bins + 1)
    of_score = np.searchsorted(edges[1:-1], values, side="left")
    members = [of_score == i for i in range(len(edges) - 1)]
    bins = tuple(
        ReliabilityBin(low, high, int(inside.sum()), _mean(values[inside]), _mean(hits[inside]))
        for (low, high), inside in zip(pairwise(edges.tolist()), members, strict=True)
    )
    n = len(values)
    gaps = sum(of_bin.n * abs(of_bin.precision - of_bin.mean_score) for of_bin in bins if of_bin.n)
    return Calibration(bins, gaps / n if n else math.nan, n)


def _equal_mass_edges(scores: NDArray[np.float64], n_bins: int) -> NDArray[np.float64]:
    """Lowest score, inner edges that are scores themselves, highest score; empty without scores."""
    if not len(scores):
        return np.zeros(0)
    inner = np.quantile(scores, np.arange(1, n_bins) / n_bins, method="inverted_cdf")
    return np.concatenate([[scores.min()], np.unique(inner[inner < scores.max()]), [scores.max()]])


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else math.nan
