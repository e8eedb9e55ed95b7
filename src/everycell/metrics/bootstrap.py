"""How sure a figure is: bootstrap intervals, and whether one prediction beats another on the same images.

Both redraw whole groups, such as the images of one patient, because images of a group resemble each other. The
interval is the percentile interval of Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13. The
p-value is that of a paired permutation test: if the two predictions were equally good, either could have been the first
in any group, which for a mean comes to flipping the sign of the group's difference.

A figure is a function of sums over images, so one product of a weight matrix and the sums serves all redraws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps totals over images, float64 [..., S], to figures, float64 [...]; NaN where the figure is undefined."""

_MIN_GROUPS = 5  # of fewer groups, the end of a 95 % interval would be little more than the most extreme one
_MANY_GROUPS = 20  # a 95 % interval of the mean of normal values covers 93 % here, 90 % with 10 groups
_EXACT_GROUPS = 12


@dataclass(frozen=True)
class Interval:
    """A figure and the range that holds its true value with probability `level`.

    Attributes:
        value: on the images as they are; NaN where undefined.
        low: lower end; NaN without enough groups.
        high: upper end; NaN without enough groups.
        level: such as 0.95.
        n_groups: groups that add to the figure; these are redrawn.
        notes: what a reader of the interval must know.
    """

    value: float
    low: float
    high: float
    level: float
    n_groups: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Two predictions on the same images.

    Attributes:
        first: figure of the first prediction.
        second: figure of the second prediction.
        difference: second minus first.
        p_value: two-sided; how often a difference at least this large turns up by chance if both are equally good. NaN
            where the difference is undefined.
        notes: what a reader of the p-value must know.
    """

    first: float
    second: float
    difference: Interval
    p_value: float
    notes: tuple[str, ...] = ()


def ratio(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first of two totals over the second, [..., 2] to [...]; 0 / 0 is NaN.

    Pooled rates are ratios: F1 is 2 TP over 2 TP + FP + FN, PQ the sum of IoU over TP + FP / 2 + FN / 2.
    """
    return np.asarray(totals[..., 0] / totals[..., 1])


def mean_terms(values: ArrayLike) -> NDArray[np.float64]:
    """Sums whose `ratio` is the mean over images of those values, [N], that are not NaN; float64 [N, 2]."""
    values = np.asarray(values, np.float64)
    return np.stack([np.nan_to_num(values, nan=0.0), ~np.isnan(values)], axis=1)


def bootstrap_interval(
    sums: ArrayLike,
    statistic: Statistic = ratio,
    *,
    rng: np.random.Generator,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Interval:
    """Percentile bootstrap interval of a figure.

    A group that adds 0 to every total, such as an image without cells, is no evidence and does not count.

    Args:
        sums: [N, S], finite, what each image adds to the totals.
        statistic: makes the figure of the totals.
        rng: draws the groups; the same state gives the same interval.
        groups: N names, such as patients; each image is its own group when None.
        level: in (0, 1).
        n_resamples: redraws, 1000 or more for stable ends (Efron & Tibshirani 1993, section 14.2).
    """
    assert 0 < level < 1 and n_resamples > 0
    per_group = _sum_groups(sums, groups)
    n = len(per_group)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(per_group.sum(axis=0)))
        if n < _MIN_GROUPS or math.isnan(value):
            too_few = (f"no interval: expected at least {_MIN_GROUPS} groups, got {n}",) if n < _MIN_GROUPS else ()
            return Interval(value, math.nan, math.nan, level, n, too_few)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(np.float64)
        figures = statistic(weights @ per_group)
    undefined = int(np.isnan(figures).sum())
    low, high = np.nanquantile(figures, [(1 - level) / 2, (1 + level) / 2]).tolist()
    notes = []
    if n < _MANY_GROUPS:
        notes.append(f"few groups ({n}, below {_MANY_GROUPS}): the interval is rather too narrow")
    if undefined:
        notes.append(f"{undefined} of {n_resamples} resamples without a value are left out")
    return Interval(value, low, high, level, n, tuple(notes))


def compare_paired(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Statistic = ratio,
    *,
    rng: np.random.Generator,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Comparison:
    """Compare two predictions on the same images; `first` and `second` are their sums as in `bootstrap_interval`.

    The permutation test swaps the predictions of each group or not. It tries all ways if at most 12 groups differ, else
    `n_resamples` random ones, and then counts the observed one too, so that p is never 0 (Phipson & Smyth 2010,
    Statistical Applications in Genetics and Molecular Biology 9(1)).
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    assert first.shape == second.shape
    width = first.shape[1]

    def difference(totals: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(statistic(totals[..., width:]) - statistic(totals[..., :width]))

    interval = bootstrap_interval(
        np.concatenate([first, second], axis=1),
        difference,
        rng=rng,
        groups=groups,
        level=level,
        n_resamples=n_resamples,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        of_first, of_second = float(statistic(first.sum(axis=0))), float(statistic(second.sum(axis=0)))
        if math.isnan(interval.value):
            return Comparison(of_first, of_second, interval, math.nan)
        gains = _sum_groups(second - first, groups)  # where both are equal, a swap changes nothing
        moved = _swaps(len(gains), n_resamples, rng) @ gains
        by_chance = difference(np.concatenate([first.sum(axis=0) + moved, second.sum(axis=0) - moved], axis=1))
    p = _p_value(by_chance, interval.value, exact=len(gains) <= _EXACT_GROUPS)
    smallest = 2.0 ** (1 - len(gains))
    coarse = (f"p cannot be below {smallest:.4g} (groups that differ: {len(gains)})",) if 0.05 < smallest <= 1 else ()
    return Comparison(of_first, of_second, interval, p, coarse)


def _sum_groups(sums: ArrayLike, groups: Sequence[str] | None) -> NDArray[np.float64]:
    """Sums of each group that adds anything, float64 [G, S]."""
    sums = np.asarray(sums, np.float64)
    assert sums.ndim == 2 and np.isfinite(sums).all()
    per_group = sums
    if groups is not None:
        assert len(groups) == len(sums)
        names, of_image = np.unique(np.asarray(groups, np.str_), return_inverse=True)
        per_group = np.zeros((len(names), sums.shape[1]))
        np.add.at(per_group, of_image, sums)
    return per_group[per_group.any(axis=1)]


def _swaps(n: int, n_resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Which of `n` groups are swapped, 0 or 1, float64 [ways, n]: all ways, or random ones of many groups."""
    if n <= _EXACT_GROUPS:
        return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.float64)
    return rng.integers(0, 2, (n_resamples, n)).astype(np.float64)


def _p_value(by_chance: NDArray[np.float64], observed: float, *, exact: bool) -> float:
    """Share of differences at least as large as the observed one; undefined ones count as such, to be on the safe side.

    Rounding must not tell apart differences that are equal on paper.
    """
    slack = 1e-9 * np.nanmax(np.abs(by_chance), initial=abs(observed))
    extreme = int((~(np.abs(by_chance) < abs(observed) - slack)).sum())
    return extreme / len(by_chance) if exact else (1 + extreme) / (1 + len(by_chance))
