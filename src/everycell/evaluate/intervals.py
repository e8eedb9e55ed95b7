"""How sure the figures of an evaluation are, and whether one prediction is better than another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everycell.evaluate.image import ComparedImage, ImageSums
from everycell.evaluate.results import PairedComparison
from everycell.metrics import (
    Comparison,
    Counts,
    Interval,
    Statistic,
    bootstrap_interval,
    centroid_scores,
    compare_paired,
    mean_terms,
    ratio,
    weighted_ap50,
)

_SEED = 0  # the same images give the same intervals
_AP_RESAMPLES = 1000  # each ranks all predictions anew


@dataclass(frozen=True)
class _Sums:
    """What each image adds to the totals of one figure, float64 [N, S], and the figure as a function of the totals."""

    rows: NDArray[np.float64]
    statistic: Statistic = ratio


def find_intervals(
    images: Sequence[ComparedImage], n_classes: int, groups: Sequence[str] | None = None
) -> dict[str, Interval]:
    """Bootstrap intervals at 95 %, by the figure's name in `EvaluationResult`.

    Args:
        images: compared images.
        n_classes: K.
        groups: the group of each image, such as its patient; whole groups are redrawn. Images when None.
    """
    ap50 = weighted_ap50([image.sums.ranked for image in images], n_classes)
    weights = np.diag(_has_cells(images))
    intervals = {"ap50": bootstrap_interval(weights, ap50, rng=_rng(), groups=groups, n_resamples=_AP_RESAMPLES)}
    for name, sums in _figures(images, n_classes).items():
        intervals[name] = bootstrap_interval(sums.rows, sums.statistic, rng=_rng(), groups=groups)
    return intervals


def compare_predictions(
    first: Sequence[ComparedImage],
    second: Sequence[ComparedImage],
    names: tuple[str, str],
    groups: Sequence[str] | None = None,
) -> PairedComparison:
    """Differences of the figures of two predictions, second minus first, with intervals and p-values.

    Figures that look at classes are compared where both predictions have the same ones, AP50 only where both have
    scores.

    Args:
        first: images compared with the first prediction.
        second: the same images, in the same order, compared with the second one.
        names: of both predictions.
        groups: the group of each image; images are redrawn and swapped when None.
    """
    assert [image.name for image in first] == [image.name for image in second]
    measures = {}
    of_first, of_second = _n_classes(first), _n_classes(second)
    if of_first == of_second and _has_scores(first) and _has_scores(second):
        measures["ap50"] = _compare_ap50(first, second, of_first, groups)
    one, other = _figures(first, of_first), _figures(second, of_second)
    for name, sums in one.items():
        if sums.rows.shape == other[name].rows.shape:
            measures[name] = compare_paired(sums.rows, other[name].rows, sums.statistic, rng=_rng(), groups=groups)
    return PairedComparison(*names, measures)


def _compare_ap50(
    first: Sequence[ComparedImage], second: Sequence[ComparedImage], n_classes: int, groups: Sequence[str] | None
) -> Comparison:
    """AP ranks the predictions of all images at once: here of 2 N images, of which each redraw and swap takes N."""
    ranked = [image.sums.ranked for image in (*first, *second)]
    weights, none = np.diag(_has_cells(first) | _has_cells(second)), np.zeros((len(first), len(first)))
    return compare_paired(
        np.concatenate([weights, none], axis=1),
        np.concatenate([none, weights], axis=1),
        weighted_ap50(ranked, n_classes),
        rng=_rng(),
        groups=groups,
        n_resamples=_AP_RESAMPLES,
    )


def _figures(images: Sequence[ComparedImage], n_classes: int) -> dict[str, _Sums]:
    """Every figure that is a function of sums over images."""
    measures, sums = [image.measures for image in images], [image.sums for image in images]
    outlines = [image.outlines.f1 for image in sums]
    return {
        "pq": _Sums(mean_terms([of.pq for of in measures])),
        "aji": _Sums(mean_terms([of.aji for of in measures])),
        "aji_plus": _Sums(mean_terms([of.aji_plus for of in measures])),
        "dice": _Sums(mean_terms([of.dice for of in measures])),
        "f1_50": _Sums(_f1_terms([of.counts[0] for of in sums])),
        "mpq_plus": _Sums(_pq_terms(sums, n_classes), _mean_ratio),
        "f_d": _Sums(_f1_terms([centroid_scores([of.centroids], n_classes).counts for of in sums])),
        "boundary_f1": _Sums(np.array([(f1.sum(), len(f1)) for f1 in outlines], np.float64).reshape(-1, 2)),
    }


def _f1_terms(counts: Sequence[Counts]) -> NDArray[np.float64]:
    """Sums whose `ratio` is F1 of the counts of all images together, float64 [N, 2]."""
    return np.array([(2 * of.tp, 2 * of.tp + of.fp + of.fn) for of in counts], np.float64).reshape(-1, 2)


def _pq_terms(sums: Sequence[ImageSums], n_classes: int) -> NDArray[np.float64]:
    """The two totals of PQ of each class one after the other, float64 [N, 2 K]."""
    rows = [np.stack([of.iou_sum, of.tp + (of.fp + of.fn) / 2], axis=1)[1:] for of in (each.classes for each in sums)]
    return np.array(rows, np.float64).reshape(-1, 2 * n_classes)


def _mean_ratio(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the ratios of pairs of totals, [..., 2 K] to [...], over those that are defined."""
    ratios = ratio(totals.reshape(*totals.shape[:-1], -1, 2))
    known = ~np.isnan(ratios)
    return np.asarray(np.where(known, ratios, 0).sum(axis=-1) / known.sum(axis=-1))


def _has_cells(images: Sequence[ComparedImage]) -> NDArray[np.bool_]:
    """Whether an image is evidence for average precision, bool [N]."""
    return np.array([bool(len(image.truth) or len(image.sums.ranked.scores)) for image in images], np.bool_)


def _has_scores(images: Sequence[ComparedImage]) -> bool:
    """Whether predictions can be ranked."""
    return len({score for image in images for score in np.unique(image.sums.ranked.scores).tolist()}) > 1


def _n_classes(images: Sequence[ComparedImage]) -> int:
    return len(images[0].truth.class_names) if images else 1


def _rng() -> np.random.Generator:
    """The same state for every figure, so that all are redrawn alike."""
    return np.random.default_rng(_SEED)
