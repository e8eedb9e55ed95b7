import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everycell.metrics import calibration


def arrays(*pairs):
    scores, hits = zip(*pairs, strict=True)
    return np.array(scores, np.float32), np.array(hits, np.bool_)


def test_equal_width_by_hand():
    # Two bins: 0.2 and 0.5 with one right (gap |0.5 - 0.35|), 0.75 and 1.0 with both right (gap |1 - 0.875|).
    result = calibration(*arrays((0.2, 0), (0.5, 1), (0.75, 1), (1.0, 1)), n_bins=2)
    low, high = result.bins
    assert (low.low, low.high, low.n, low.precision) == (0, 0.5, 2, 0.5)
    assert (high.low, high.high, high.n, high.precision, high.mean_score) == (0.5, 1, 2, 1, 0.875)
    assert low.mean_score == pytest.approx(0.35)
    assert result.ece == pytest.approx((2 * 0.15 + 2 * 0.125) / 4)
    assert result.n == 4


def test_equal_mass_by_hand():
    # Three of six scores crowd below 0.1: bins of two follow them.
    pairs = arrays((0.03125, 0), (0.0625, 1), (0.09375, 0), (0.5, 1), (0.75, 0), (1.0, 1))
    result = calibration(*pairs, n_bins=3, equal_mass=True)
    assert [(b.low, b.high, b.n) for b in result.bins] == [(0.03125, 0.0625, 2), (0.0625, 0.5, 2), (0.5, 1, 2)]
    assert [b.precision for b in result.bins] == [0.5, 0.5, 0.5]
    assert [b.mean_score for b in result.bins] == [0.046875, 0.296875, 0.875]
    assert result.ece == pytest.approx((0.453125 + 0.203125 + 0.375) / 3)


def test_bins_take_their_upper_end_and_the_first_also_its_lower():
    result = calibration(*arrays((0, 0), (0.25, 1), (0.5, 1), (1, 1)), n_bins=4)
    assert [b.n for b in result.bins] == [2, 1, 0, 1]
    assert math.isnan(result.bins[2].precision)
    assert math.isnan(result.bins[2].mean_score)


def test_equal_scores_stay_together():
    result = calibration(*arrays(*[(0.5, i % 2) for i in range(7)], (0.9, 1)), n_bins=4, equal_mass=True)
    assert [(b.low, b.n) for b in result.bins] == [(0.5, 7), (0.5, 1)]
    (alone,) = calibration(*arrays((0.5, 1), (0.5, 0)), n_bins=4, equal_mass=True).bins
    assert (alone.low, alone.high, alone.n, alone.precision) == (0.5, 0.5, 2, 0.5)


def test_without_predictions():
    empty = np.zeros(0, np.float32), np.zeros(0, np.bool_)
    by_width, by_mass = calibration(*empty), calibration(*empty, equal_mass=True)
    assert math.isnan(by_width.ece)
    assert math.isnan(by_mass.ece)
    assert [b.n for b in by_width.bins] == [0] * 10
    assert by_mass.bins == ()
    assert by_mass.n == 0


@pytest.mark.parametrize("equal_mass", [False, True])
def test_scores_that_mean_what_they_say_have_almost_no_error(equal_mass):
    rng = np.random.default_rng(4)
    scores = rng.beta(4, 1, 20_000)
    honest = calibration(scores, rng.random(20_000) < scores, equal_mass=equal_mass)
    # Right with the probability score ** 2: the mean gap is E[s - s²] = 4/5 - 4/6.
    boastful = calibration(scores, rng.random(20_000) < scores**2, equal_mass=equal_mass)
    assert honest.ece < 0.02
    assert boastful.ece == pytest.approx(4 / 5 - 4 / 6, abs=0.015)
    assert all(b.precision < b.mean_score for b in boastful.bins if b.n > 500)


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 8),
    st.booleans(),
)
def test_every_prediction_is_in_one_bin_and_its_order_does_not_matter(pairs, n_bins, equal_mass):
    scores, hits = arrays(*pairs)
    result = calibration(scores, hits, n_bins=n_bins, equal_mass=equal_mass)
    assert sum(b.n for b in result.bins) == result.n == len(pairs)
    assert sum(b.n * b.precision for b in result.bins if b.n) == pytest.approx(hits.sum())
    assert 0 <= result.ece <= 1
    assert all(b.low - 1e-9 <= b.mean_score <= b.high + 1e-9 for b in result.bins if b.n)
    assert calibration(scores[::-1], hits[::-1], n_bins=n_bins, equal_mass=equal_mass).ece == pytest.approx(result.ece)
    if equal_mass:
        assert all(b.n for b in result.bins)
        assert len(result.bins) <= n_bins
