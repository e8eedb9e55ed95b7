"""AJI+; plain AJI is tested with the other measures of one image."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from everycell.metrics import (
    aggregated_jaccard_index,
    aggregated_jaccard_index_plus,
    overlap,
    overlap_of_labels,
)
from everycell.structures import MaskCrops

label_images = hnp.arrays(np.int64, (6, 7), elements=st.integers(0, 5))


def aji_plus(truth, pred):
    return aggregated_jaccard_index_plus(overlap_of_labels(truth, pred))


def dense_aji_plus(truth, pred):
    """The definition on dense masks with scipy's assignment; ties are left to it."""
    t = [truth == v for v in np.unique(truth) if v]
    p = [pred == v for v in np.unique(pred) if v]
    shared = np.array([[(a & b).sum() for b in p] for a in t]).reshape(len(t), len(p))
    union = np.array([[(a | b).sum() for b in p] for a in t]).reshape(len(t), len(p))
    iou = shared / union
    rows, columns = linear_sum_assignment(iou, maximize=True)
    pairs = [(i, j) for i, j in zip(rows, columns, strict=True) if iou[i, j] > 0]
    alone = [a.sum() for i, a in enumerate(t) if i not in {i for i, _ in pairs}]
    alone += [b.sum() for j, b in enumerate(p) if j not in {j for _, j in pairs}]
    total = sum(union[pair] for pair in pairs) + sum(alone)
    return sum(shared[pair] for pair in pairs) / total


def test_hand_made_grid(true_grid, pred_grid):
    # Pairs 1-1 (4 of 6 px), 2-2 (2 of 4) and 3-3 (2 of 4, more than 2 of 5); predicted cell 4 (3 px) stays alone.
    assert aji_plus(true_grid, pred_grid) == pytest.approx((4 + 2 + 2) / (6 + 4 + 4 + 3))


def test_a_prediction_serves_one_true_cell_only():
    truth = np.array([[1, 1, 1, 2, 2, 0]])
    pred = np.array([[1, 1, 1, 1, 1, 1]])
    # IoU 3 / 6 beats 2 / 6; true cell 2 stays alone.
    assert aji_plus(truth, pred) == pytest.approx(3 / (6 + 2))
    assert aggregated_jaccard_index(overlap_of_labels(truth, pred)) == pytest.approx((3 + 2) / (6 + 6))


def test_the_sum_of_iou_decides_not_the_best_single_pair():
    # True 1 fits prediction 1 best (3 / 5), but true 2 has no other partner; 3 / 5 alone is less than 2 / 5 + 2 / 4.
    truth = np.array([[1, 1, 1, 2, 2, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]])
    pred = np.array([[1, 1, 1, 1, 1, 0, 0, 0], [2, 2, 0, 0, 0, 0, 0, 0]])
    # Pairs 1-2 (2 of 5 px) and 2-1 (2 of 5): 0.8, against 1-1 (3 of 7): 0.43.
    assert aji_plus(truth, pred) == pytest.approx((2 + 2) / (5 + 5))


@pytest.mark.parametrize("relabel", [(1, 2), (2, 1)])
def test_of_tied_pairings_the_one_with_more_shared_pixels_counts(relabel):
    # 1 of 2 pixels or 2 of 4: both pairs have IoU 1 / 2.
    truth = np.array([[1, 1, 1]])
    pred = np.array([0, *relabel])[np.array([[1, 1, 2]])]
    assert aji_plus(truth, pred) == pytest.approx(2 / (3 + 1))
    twice = np.array([[1, 0, 2, 2, 2, 2]])
    halves = np.array([0, *relabel])[np.array([[1, 1, 2, 2, 0, 0]])]
    assert aji_plus(twice, halves) == pytest.approx((1 + 2) / (2 + 4))


def test_empty_sides(true_grid):
    nothing = np.zeros_like(true_grid)
    assert aji_plus(true_grid, nothing) == aji_plus(nothing, true_grid) == 0
    assert math.isnan(aji_plus(nothing, nothing))
    assert aji_plus(np.array([[1, 0]]), np.array([[0, 1]])) == 0  # cells on both sides, none shares a pixel


def test_400_touching_cells_against_themselves_moved_by_a_pixel():
    labels = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((8, 8), np.int64))
    moved = np.roll(labels, 1, axis=1)
    moved[:, 0] = 0
    # 380 cells keep 7 of their 8 columns, and so do the last 20, which lose the eighth at the edge.
    shared = 400 * 56
    assert aji_plus(labels, moved) == pytest.approx(shared / (400 * 64 + 380 * 64 + 20 * 56 - shared))


@given(label_images)
def test_perfect_is_one(labels):
    assume(labels.any())
    assert aji_plus(labels, labels) == 1


@given(label_images, label_images)
def test_equals_the_definition_on_dense_masks_up_to_ties(truth, pred):
    assume(truth.any() and pred.any())
    assert aji_plus(truth, pred) >= dense_aji_plus(truth, pred) - 1e-12


@given(st.integers(0, 2**32 - 1))
def test_equals_the_definition_where_nothing_ties(seed):
    rng = np.random.default_rng(seed)
    truth, pred = (np.kron(rng.integers(0, 5, (4, 4)), np.ones((5, 7), np.int64)) for _ in range(2))
    pred = np.where(rng.random(pred.shape) < 0.4, 0, pred)  # ragged cells: IoUs of many denominators
    assume(truth.any() and pred.any())
    assert aji_plus(truth, pred) == pytest.approx(dense_aji_plus(truth, pred))


@given(label_images, label_images)
def test_relabelling_and_shifting_both_change_nothing(truth, pred):
    before = aji_plus(truth, pred)
    assert aji_plus(truth, np.where(pred, 100 - 7 * pred, 0)) == pytest.approx(before, nan_ok=True)
    crops = [MaskCrops.from_labels(labels)[0].shifted(3, 11) for labels in (truth, pred)]
    assert aggregated_jaccard_index_plus(overlap(*crops)) == pytest.approx(before, nan_ok=True)


@given(label_images, label_images, hnp.arrays(np.bool_, (6, 7)))
def test_a_false_positive_never_helps(truth, pred, alarm):
    truth, pred = np.where(alarm, 0, truth), np.where(alarm, 0, pred)
    assume(truth.any())
    assert aji_plus(truth, np.where(alarm, 99, pred)) <= aji_plus(truth, pred)
