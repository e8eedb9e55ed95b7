import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everycell.metrics import class_threshold_curves, match, overlap, score_hits, threshold_curve
from everycell.structures import Instances, MaskCrops

SIZE = (1, 40)


def row(*cells):
    """Cells (x0, x1, class id, score) that fill columns x0 to x1 of one row of pixels."""
    masks = MaskCrops.from_crops(
        np.array([(x0, 0) for x0, *_ in cells]).reshape(-1, 2),
        [np.ones((1, x1 - x0), np.bool_) for x0, x1, *_ in cells],
    )
    return Instances.from_masks(
        masks,
        SIZE,
        class_ids=np.array([k for _, _, k, _ in cells], np.int64),
        scores=np.array([score for *_, score in cells], np.float32),
    )


def test_curve_by_hand():
    # Right, right, wrong, right: F1 is 2·1/(1+3), 2·2/(2+3), 2·2/(3+3), 2·3/(4+3).
    curve = threshold_curve(np.array([0.25, 0.75, 0.875, 0.5]), np.array([True, True, True, False]), 3)
    assert curve.thresholds.tolist() == [0.875, 0.75, 0.5, 0.25]
    assert curve.precision.tolist() == pytest.approx([1, 1, 2 / 3, 3 / 4])
    assert curve.recall.tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1])
    assert curve.f1.tolist() == pytest.approx([2 / 4, 4 / 5, 4 / 6, 6 / 7])
    assert (curve.best_threshold, curve.best_f1) == (0.25, pytest.approx(6 / 7))


def test_equal_scores_are_kept_together():
    # Between the two cells of score 0.5 there is no threshold, though keeping only the right one would be best.
    curve = threshold_curve(np.array([0.5, 0.5, 0.25]), np.array([True, False, False]), 1)
    assert curve.thresholds.tolist() == [0.5, 0.25]
    assert curve.f1.tolist() == pytest.approx([2 / 3, 2 / 4])


def test_of_equally_good_thresholds_the_highest_is_best():
    # 2·1/(1+3) = 2·2/(5+3)
    curve = threshold_curve(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([True, False, False, False, True]), 3)
    assert curve.f1[0] == curve.f1[-1] == curve.best_f1 == 0.5
    assert curve.best_threshold == 0.9


def test_the_best_threshold_keeps_its_own_cell():
    score = np.float32(0.123456789)
    curve = threshold_curve(np.array([score]), np.array([True]), 1)
    assert score >= curve.best_threshold
    assert np.float64(score) == curve.best_threshold


def test_nothing_right_and_nothing_there():
    none = np.zeros(0), np.zeros(0, np.bool_)
    wrong = threshold_curve(np.array([0.5]), np.array([False]), 0)
    missed, nothing = threshold_curve(*none, 2), threshold_curve(*none, 0)
    assert (wrong.best_f1, missed.best_f1) == (0, 0)
    assert math.isnan(wrong.recall[0])
    assert all(math.isnan(curve.best_threshold) for curve in (wrong, missed, nothing))
    assert math.isnan(nothing.best_f1)
    assert len(missed.f1) == 0


def test_classes_have_thresholds_of_their_own():
    truths = [row((0, 4, 1, 1), (10, 14, 2, 1)), row((0, 4, 1, 1))]
    preds = [
        row((0, 4, 1, 0.875), (10, 14, 2, 0.25), (20, 24, 2, 0.125)),
        row((0, 4, 2, 0.75), (20, 24, 1, 0.5)),  # a true cell of class 1 found as class 2
    ]
    cells = score_hits(truths, preds)
    assert cells.hits.tolist() == [True, True, False, False, False]
    assert cells.truth_class_ids.tolist() == [1, 2, 1]
    one, two, three = class_threshold_curves(cells, 3)
    assert (one.best_threshold, one.best_f1) == (0.875, pytest.approx(2 / 3))  # 1 right of 1 kept, 2 true
    assert (two.best_threshold, two.best_f1) == (0.25, pytest.approx(2 / 3))  # 1 right of 2 kept, 1 true
    assert math.isnan(three.best_f1)
    blind = score_hits(truths, preds, by_class=False)
    assert blind.hits.tolist() == [True, True, False, True, False]


def test_a_match_lies_strictly_above_the_threshold():
    half = [row((0, 4, 1, 1))], [row((0, 2, 1, 0.5))]
    assert score_hits(*half).hits.tolist() == [False]
    assert score_hits(*half, iou=0.49).hits.tolist() == [True]


def test_a_surer_cell_is_matched_before_a_better_one():
    truth = row((0, 10, 1, 1))
    assert score_hits([truth], [row((0, 10, 1, 0.5), (0, 6, 1, 0.9))]).hits.tolist() == [False, True]


def test_no_images_and_images_without_cells():
    assert len(score_hits([], []).hits) == 0
    cells = score_hits([Instances.empty(SIZE)] * 2, [Instances.empty(SIZE), row((0, 4, 1, 0.5))])
    assert (cells.hits.tolist(), len(cells.truth_class_ids)) == ([False], 0)


CELLS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 8), st.integers(1, 2), st.sampled_from([0.25, 0.5, 0.75, 1])),
    max_size=8,
).map(lambda cells: [(x, x + width, k, score) for x, width, k, score in cells])


@settings(max_examples=50)
@given(CELLS, CELLS)
def test_the_curve_is_what_matching_the_kept_cells_alone_gives(true_cells, pred_cells):
    truth, pred = row(*true_cells), row(*pred_cells)
    cells = score_hits([truth], [pred])
    for k, curve in enumerate(class_threshold_curves(cells, 2), start=1):
        for i, threshold in enumerate(curve.thresholds):
            kept = pred.select((pred.class_ids == k) & (pred.scores >= threshold))
            of_class = truth.select(truth.class_ids == k)
            right = score_hits([of_class], [kept], by_class=False).hits.sum()
            assert curve.f1[i] == pytest.approx(2 * right / (len(kept) + len(of_class)))
            assert curve.precision[i] == pytest.approx(right / len(kept))


@given(CELLS, CELLS)
def test_hits_of_cells_that_do_not_overlap_are_those_of_matching(true_cells, pred_cells):
    truth, pred = (Instances.from_labels(row(*cells).to_labels()) for cells in (true_cells, pred_cells))
    expected = np.zeros(len(pred), np.bool_)
    expected[match(overlap(truth.masks, pred.masks).iou(), 0.5).pred] = True
    assert score_hits([truth], [pred]).hits.tolist() == expected.tolist()
