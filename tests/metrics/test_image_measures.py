"""PQ, AJI and Dice of one image."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from everycell.metrics import aggregated_jaccard_index, dice, overlap_of_labels, panoptic_quality

label_images = hnp.arrays(np.int64, (6, 7), elements=st.integers(0, 5))


def measures(truth, pred):
    shared = overlap_of_labels(truth, pred)
    quality = panoptic_quality(shared)
    return quality.pq, quality.dq, quality.sq, aggregated_jaccard_index(shared), dice(shared)


def test_hand_made_grid(true_grid, pred_grid):
    pq, dq, sq, aji, pixels = measures(true_grid, pred_grid)
    # One match with IoU 4 / 6; three predictions and two true cells stay alone: DQ = 2 / (2 + 3 + 2).
    assert (dq, sq) == pytest.approx((2 / 7, 4 / 6))
    assert pq == pytest.approx(2 / 7 * 4 / 6)
    # Intersections 4 + 2 + 2, unions 6 + 4 + 4, and predicted cell 4 (3 px) is used by no true cell.
    assert aji == pytest.approx(8 / 17)
    # 12 true and 13 predicted pixels, 10 in common.
    assert pixels == pytest.approx(20 / 25)


def test_one_prediction_may_serve_several_true_cells_in_aji():
    truth = np.array([[1, 1, 2, 2, 0]])
    pred = np.array([[1, 1, 1, 1, 1]])
    # Each true cell takes the one prediction: intersections 2 + 2, unions 5 + 5.
    assert aggregated_jaccard_index(overlap_of_labels(truth, pred)) == pytest.approx(4 / 10)


def test_a_true_cell_without_overlap_adds_its_area_to_the_union_of_aji():
    truth = np.array([[1, 1, 0, 2, 2]])
    pred = np.array([[1, 1, 0, 0, 0]])
    assert aggregated_jaccard_index(overlap_of_labels(truth, pred)) == pytest.approx(2 / 4)


def test_aji_takes_the_highest_iou_not_the_largest_intersection():
    truth = np.array([[1, 1, 1, 1, 1, 0, 0, 0, 0, 0]])
    pred = np.array([[2, 2, 1, 1, 1, 1, 1, 1, 1, 1]])  # IoU 2 / 5 with predicted 2, 3 / 10 with predicted 1
    assert aggregated_jaccard_index(overlap_of_labels(truth, pred)) == pytest.approx(2 / (5 + 8))


@pytest.mark.parametrize("relabel", [(1, 2), (2, 1)])
def test_aji_of_a_tie_does_not_depend_on_labels(relabel):
    # True 1 overlaps both predictions by 1 of 3 pixels; true 2 takes the first one, IoU 1 / 2. Intersections 1 + 1,
    # unions 3 + 2, and both predictions are used.
    truth = np.array([[1, 1, 2, 0]])
    pred = np.array([0, *relabel])[np.array([[1, 2, 1, 2]])]
    assert aggregated_jaccard_index(overlap_of_labels(truth, pred)) == pytest.approx(2 / 5)


def test_nothing_true_and_nothing_found_is_nan():
    nothing = np.zeros((5, 5), np.int32)
    assert all(math.isnan(value) for value in measures(nothing, nothing))


def test_one_side_empty_is_zero(true_grid):
    nothing = np.zeros((5, 5), np.int32)
    assert measures(true_grid, nothing) == (0, 0, 0, 0, 0)
    assert measures(nothing, true_grid) == (0, 0, 0, 0, 0)


@given(label_images)
def test_perfect_is_one(labels):
    assume(labels.any())
    assert measures(labels, labels) == (1, 1, 1, 1, 1)


@given(label_images, label_images)
def test_all_lie_between_zero_and_one_and_relabelling_changes_nothing(truth, pred):
    before = measures(truth, pred)
    assert all(math.isnan(value) or 0 <= value <= 1 for value in before)
    assert measures(truth, np.where(pred, 100 - 7 * pred, 0)) == pytest.approx(before, nan_ok=True)


@given(label_images, label_images, hnp.arrays(np.bool_, (6, 7)))
def test_a_false_positive_never_helps(truth, pred, alarm):
    truth, pred = np.where(alarm, 0, truth), np.where(alarm, 0, pred)
    assume(truth.any())
    before, after = measures(truth, pred), measures(truth, np.where(alarm, 99, pred))
    for i in (0, 1, 3, 4):  # PQ, DQ, AJI, Dice; SQ looks at matched pairs alone
        assert after[i] <= before[i]
