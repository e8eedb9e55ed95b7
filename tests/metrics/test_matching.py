import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_array

from everycell.metrics import IOU_THRESHOLDS, Counts, match, overlap_of_labels


def test_matches_of_the_hand_made_grid(true_grid, pred_grid):
    iou = overlap_of_labels(true_grid, pred_grid).iou()
    above_half = match(iou, 0.5)  # only true 1 with predicted 1, 4 / 6; an IoU of exactly 0.5 is no match
    assert above_half.counts == Counts(tp=1, fp=3, fn=2)
    assert (above_half.truth.tolist(), above_half.pred.tolist(), above_half.iou.tolist()) == ([0], [0], [4 / 6])
    assert match(iou, 0.7).counts == Counts(tp=0, fp=4, fn=3)
    below = match(iou, 0.45)  # true 3 takes the half with 2 / 4, not the one with 2 / 5
    assert list(zip(below.truth.tolist(), below.pred.tolist(), strict=True)) == [(0, 0), (1, 1), (2, 2)]


def test_rates_by_hand():
    counts = Counts(tp=3, fp=1, fn=2)
    assert counts.precision == pytest.approx(3 / 4)
    assert counts.recall == pytest.approx(3 / 5)
    assert counts.f1 == pytest.approx(6 / 9)
    assert counts.dsb_ap == pytest.approx(3 / 6)
    assert counts + Counts(1, 1, 1) == Counts(4, 2, 3)


def test_rates_without_matches_are_zero_and_without_cells_nan():
    for lost in (Counts(fp=2), Counts(fn=2)):
        assert (lost.precision, lost.recall, lost.f1, lost.dsb_ap) == (0, 0, 0, 0)
    nothing = Counts()
    assert all(math.isnan(rate) for rate in (nothing.precision, nothing.recall, nothing.f1, nothing.dsb_ap))


def test_one_more_pair_outweighs_a_higher_iou():
    # Greedy matching would take the 0.9 and leave one cell over; two pairs are possible.
    iou = csr_array(np.array([[0.9, 0.6], [0.6, 0.0]]))
    matches = match(iou, 0.5)
    assert (matches.truth.tolist(), matches.pred.tolist(), matches.iou.tolist()) == ([0, 1], [1, 0], [0.6, 0.6])


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.sampled_from([0, 0.3, 0.6, 1])),
    st.sampled_from([0.0, 0.3, 0.5]),
)
def test_matching_is_as_good_as_the_best_of_all_assignments(iou, threshold):
    above = iou * (iou > threshold)
    wide = above if above.shape[0] <= above.shape[1] else above.T
    rows = range(wide.shape[0])
    best = max(
        (int((wide[rows, columns] > 0).sum()), round(float(wide[rows, columns].sum()), 9))
        for columns in map(list, itertools.permutations(range(wide.shape[1]), wide.shape[0]))
    )
    matches = match(csr_array(iou), threshold)
    assert (matches.counts.tp, round(float(matches.iou.sum()), 9)) == best
    assert len(set(matches.truth)) == len(set(matches.pred)) == matches.counts.tp
    np.testing.assert_array_equal(iou[matches.truth, matches.pred], matches.iou)


def test_the_ten_thresholds_are_decimal_numbers():
    assert len(IOU_THRESHOLDS) == 10
    assert IOU_THRESHOLDS[1] == 11 / 20  # so an IoU of exactly 0.55 is not above it
    assert IOU_THRESHOLDS[9] == 19 / 20
