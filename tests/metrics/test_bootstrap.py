import math

import numpy as np
import pytest
from scipy import stats

from everycell.metrics import bootstrap_interval, compare_paired, mean_terms, ratio


def seeded(seed=0):
    return np.random.default_rng(seed)


def f1(totals):
    tp, fp, fn = np.moveaxis(totals, -1, 0)
    return 2 * tp / (2 * tp + fp + fn)


def test_value_is_the_figure_of_the_images_as_they_are():
    counts = [[3, 1, 2], [0, 0, 0], [2, 2, 0], [1, 0, 0], [4, 1, 1], [0, 1, 0]]
    interval = bootstrap_interval(counts, f1, rng=seeded())
    assert interval.value == pytest.approx(20 / 28)  # 10 TP, 5 FP, 3 FN
    assert interval.low <= interval.value <= interval.high
    assert (interval.level, interval.n_groups) == (0.95, 5)  # the empty image is no evidence


def test_interval_of_a_share_has_the_ends_of_the_binomial_distribution():
    # Redrawing 20 images of which 8 have the value 1 makes binomial counts; their 2.5 % and 97.5 % points are 4 and 12.
    ends = stats.binom.ppf([0.025, 0.975], 20, 0.4)
    assert ends.tolist() == [4, 12]
    interval = bootstrap_interval(mean_terms([1] * 8 + [0] * 12), rng=seeded())
    assert (interval.value, interval.low, interval.high) == (0.4, 0.2, 0.6)
    assert interval.notes == ()


def test_interval_agrees_with_scipy():
    sums = seeded(3).uniform(1, 2, (30, 2)) * [1, 3]
    ours = bootstrap_interval(sums, rng=seeded(1), n_resamples=20_000, level=0.9)
    theirs = stats.bootstrap(
        (sums[:, 0], sums[:, 1]),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        confidence_level=0.9,
        rng=seeded(2),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_same_seed_same_interval():
    sums = mean_terms(seeded(5).normal(size=40))
    first, again, other = (bootstrap_interval(sums, rng=seeded(seed)) for seed in (1, 1, 2))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_groups_are_redrawn_whole():
    sums = seeded(7).integers(0, 9, (12, 2)) + 1.0
    names = list("abcdefabcdef")
    by_group = bootstrap_interval(sums, groups=names, rng=seeded())
    assert by_group == bootstrap_interval(sums[:6] + sums[6:], rng=seeded())
    # A copy of every image in its group adds no knowledge; as images of their own, the copies seem to.
    doubled = bootstrap_interval(np.repeat(sums, 2, axis=0), groups=np.repeat(names, 2).tolist(), rng=seeded())
    assert (doubled.low, doubled.high) == (by_group.low, by_group.high)


def test_interval_covers_the_truth_only_if_it_respects_groups():
    rng = seeded(11)
    names = np.repeat(np.arange(30), 4).astype(str).tolist()
    covered = np.zeros(2)
    for _ in range(200):
        values = np.repeat(rng.normal(size=30), 4) + 0.3 * rng.normal(size=120)  # the true mean is 0
        for i, groups in enumerate((names, None)):
            interval = bootstrap_interval(mean_terms(values), groups=groups, rng=rng, n_resamples=400)
            covered[i] += interval.low <= 0 <= interval.high
    by_group, by_image = covered / 200
    assert 0.89 <= by_group <= 0.98
    assert by_image < 0.8


def test_mean_ignores_nan():
    assert ratio(mean_terms([1.0, math.nan, 2.0]).sum(axis=0)) == 1.5
    known = [0.2, 0.4, 0.6, 0.8, 1.0]
    interval = bootstrap_interval(mean_terms([*known, math.nan, math.nan]), rng=seeded())
    assert interval == bootstrap_interval(mean_terms(known), rng=seeded())
    assert interval.value == pytest.approx(0.6)
    # One value among many unknown ones has no spread to go by.
    assert math.isnan(bootstrap_interval(mean_terms([0.5] + [math.nan] * 24), rng=seeded()).low)


def test_too_few_groups_give_no_interval_and_a_few_a_note():
    interval = bootstrap_interval(mean_terms([1, 2, 3, 4]), rng=seeded())
    assert interval.value == 2.5
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.notes == ("no interval: expected at least 5 groups, got 4",)
    few = bootstrap_interval(mean_terms([1, 2, 3, 4, 5]), rng=seeded())
    assert few.low < 3 < few.high
    assert few.notes == ("few groups (5, below 20): the interval is rather too narrow",)


@pytest.mark.parametrize("values", [[], [math.nan], [math.nan] * 30])
def test_nothing_known_gives_nan(values):
    interval = bootstrap_interval(mean_terms(values), rng=seeded())
    assert all(math.isnan(number) for number in (interval.value, interval.low, interval.high))
    assert math.isnan(compare_paired(mean_terms(values), mean_terms(values), rng=seeded()).p_value)


def test_resamples_without_a_value_are_counted():
    # The mean of two classes' rates; only one of 25 images has cells of the second class.
    sums = np.tile([1.0, 2.0, 0.0, 0.0], (25, 1))
    sums[0, 2:] = 3, 4
    interval = bootstrap_interval(
        sums, lambda totals: (ratio(totals[..., :2]) + ratio(totals[..., 2:])) / 2, rng=seeded(), n_resamples=1000
    )
    assert (interval.value, interval.low, interval.high) == (0.625, 0.625, 0.625)
    (note,) = interval.notes
    # That image is missing from (24 / 25) ** 25 = 36 % of the redraws.
    assert int(note.split()[0]) == pytest.approx(360, abs=60)
    assert note.endswith("of 1000 resamples without a value are left out")


def test_p_value_by_hand():
    first = mean_terms([0.1, 0.2, 0.3])
    comparison = compare_paired(first, mean_terms([0.2, 0.4, 0.6]), rng=seeded())
    assert (comparison.first, comparison.second) == (pytest.approx(0.2), pytest.approx(0.4))
    assert comparison.difference.value == pytest.approx(0.2)
    assert comparison.p_value == 2 / 8  # only +++ and --- reach the observed sum
    assert comparison.notes == ("p cannot be below 0.25 (groups that differ: 3)",)
    # Differences 1, 1, -1: |±1 ±1 ±1| is 1 or 3, always at least the observed 1.
    assert compare_paired(mean_terms([0, 0, 1]), mean_terms([1, 1, 0]), rng=seeded()).p_value == 1


def test_equal_predictions_do_not_differ():
    sums = mean_terms(seeded(1).normal(size=30))
    comparison = compare_paired(sums, sums, rng=seeded())
    assert (comparison.difference.low, comparison.difference.value, comparison.difference.high) == (0, 0, 0)
    assert comparison.p_value == 1
    assert comparison.notes == ()


@pytest.mark.parametrize(("n", "tolerance"), [(9, 1e-12), (12, 1e-12), (13, 0.02)])
def test_p_value_agrees_with_scipy(n, tolerance):
    rng = seeded(n)
    first = rng.uniform(1, 2, (n, 2))
    second = first + rng.normal(0.05, 0.2, (n, 2))
    both = np.concatenate([first, second])

    def difference(a, b):  # scipy swaps the numbers of the images
        return ratio(both[b.astype(int)].sum(axis=0)) - ratio(both[a.astype(int)].sum(axis=0))

    theirs = stats.permutation_test(
        (np.arange(n), np.arange(n, 2 * n)), difference, permutation_type="samples", n_resamples=10_000, rng=rng
    )
    ours = compare_paired(first, second, rng=seeded(), n_resamples=10_000)
    assert ours.difference.value == pytest.approx(theirs.statistic)
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=tolerance)


def test_the_other_order_gives_the_opposite_difference_and_the_same_p():
    rng = seeded(21)
    a, b = mean_terms(rng.uniform(size=10)), mean_terms(rng.uniform(size=10))
    ab, ba = (compare_paired(*pair, rng=seeded()) for pair in ((a, b), (b, a)))
    assert ab.p_value == ba.p_value
    assert ab.difference.value == -ba.difference.value
    assert (ab.difference.low, ab.difference.high) == pytest.approx((-ba.difference.high, -ba.difference.low))


@pytest.mark.parametrize("n", [10, 16])  # all ways, and random ones
def test_p_value_is_uniform_if_both_are_equally_good(n):
    rng = seeded(n)
    values = rng.normal(size=(1000, 2, n))
    values[:, :, 0] = np.nan  # an image without cells
    ps = [compare_paired(mean_terms(a), mean_terms(b), rng=rng, n_resamples=199).p_value for a, b in values]
    assert stats.kstest(ps, "uniform").statistic < 0.052  # the 1 % point for 1000 values
    assert np.mean(np.array(ps) <= 0.05) == pytest.approx(0.05, abs=0.02)


def test_p_value_of_a_clear_difference_is_small_but_never_zero():
    rng = seeded(2)
    first = rng.uniform(size=50)
    comparison = compare_paired(mean_terms(first), mean_terms(first + 0.1), rng=rng, n_resamples=999)
    assert comparison.p_value == 1 / 1000
    assert comparison.difference.low == pytest.approx(0.1)


def test_a_group_is_swapped_whole():
    first, second = mean_terms(np.zeros(8)), mean_terms(np.ones(8))
    assert compare_paired(first, second, rng=seeded()).p_value == 2 / 2**8
    assert compare_paired(first, second, groups=list("aabbccdd"), rng=seeded()).p_value == 2 / 2**4


def test_an_image_that_only_one_prediction_has_a_value_for():
    comparison = compare_paired(mean_terms([0.4, 0.6, math.nan]), mean_terms([0.4, 0.6, 0.2]), rng=seeded())
    assert comparison.difference.value == pytest.approx(0.4 - 0.5)
    assert comparison.p_value == 1  # one group differs, and either way round the difference is as large
