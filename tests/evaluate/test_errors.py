import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from everycell.evaluate import Evaluator
from everycell.structures import Instances, MaskCrops

SIZE = (40, 60)


def discs(*cells, scores=None, class_ids=None, mpp=None):
    """Squares of (x, y, side) px."""
    crops = [np.ones((side, side), np.bool_) for *_, side in cells]
    masks = MaskCrops.from_crops(np.array(cells).reshape(-1, 3)[:, :2], crops)
    scores = None if scores is None else np.array(scores, np.float32)
    class_ids = None if class_ids is None else np.array(class_ids)
    return Instances.from_masks(masks, SIZE, scores=scores, class_ids=class_ids, mpp=mpp)


def evaluate(*pairs, class_names=("cell",), **options):
    evaluator = Evaluator(class_names, **options)
    for i, (truth, pred) in enumerate(pairs):
        evaluator.add(f"image{i}", truth, pred)
    return evaluator.result()


def test_categories_by_class_and_confusion_by_hand():
    truth = discs((0, 0, 4), (10, 0, 4), (20, 0, 4), class_ids=[1, 2, 2])
    pred = discs((0, 0, 4), (10, 0, 4), (30, 0, 4), (30, 10, 4), class_ids=[1, 1, 2, 2])
    errors = evaluate((truth, pred), class_names=("round", "long")).errors
    assert (errors.n_truth, errors.n_pred) == (3, 4)
    assert {name: n for name, n in errors.truth.items() if n} == {"correct": 1, "wrong_class": 1, "missed": 1}
    assert {name: n for name, n in errors.pred.items() if n} == {"correct": 1, "wrong_class": 1, "spurious": 2}
    assert errors.per_class["long"].truth["wrong_class"] == errors.per_class["long"].truth["missed"] == 1
    assert errors.per_class["long"].pred["spurious"] == 2
    assert errors.per_class["round"].pred["wrong_class"] == 1
    assert errors.confusion.labels == ("background", "round", "long")
    assert errors.confusion.counts == ((0, 0, 2), (0, 1, 0), (1, 1, 0))


def test_recall_by_size_with_cuts_at_the_quartiles():
    # Diameters are 2 / sqrt(pi) times the sides 2, 4, 6, 8; the quartiles of sides lie at 3.5, 5 and 6.5.
    truth = discs((0, 0, 2), (10, 0, 4), (20, 0, 6), (30, 0, 8))
    pred = discs((10, 0, 4), (30, 0, 7), (0, 20, 2))
    strata = evaluate((truth, pred)).errors.by_size
    factor = 2 / np.pi**0.5
    assert [row.high for row in strata] == pytest.approx([*(factor * side for side in (3.5, 5, 6.5)), np.inf], abs=0.01)
    assert [row.low for row in strata] == [-np.inf, *(row.high for row in strata[:-1])]
    assert [row.n_truth for row in strata] == [1, 1, 1, 1]
    assert [row.recall for row in strata] == [0, 1, 0, 1]
    assert [row.n_pred for row in strata] == [1, 1, 0, 1]
    assert strata[0].precision == 0
    assert np.isnan(strata[2].precision)
    assert strata[3].mean_iou == pytest.approx(49 / 64)
    assert strata[0].truth["missed"] == strata[0].pred["spurious"] == 1


def test_recall_by_spacing_and_by_distance_to_the_edge():
    # Sides of 4, diameter 4.51: two neighbours at distance 5 (spacing 1.1), one far away from them.
    truth = discs((0, 0, 4), (5, 0, 4), (30, 20, 4))
    errors = evaluate((truth, truth.select(np.array([0, 2])))).errors
    assert [(row.low, row.high, row.n_truth, row.recall) for row in errors.by_crowding] == [
        (1, 1.25, 2, 0.5),
        (2, np.inf, 1, 1),
    ]
    assert [(row.high, row.n_truth) for row in errors.by_edge] == [(0, 2), (np.inf, 1)]


def test_lengths_are_in_micrometres_where_every_image_knows_them():
    truth = discs((3, 3, 4), (20, 3, 4), mpp=0.5)
    known = evaluate((truth, truth)).errors
    assert known.unit == "µm"
    assert known.by_size[0].high == pytest.approx(4.51 / 2, abs=0.01)
    assert known.by_edge[0].low == 0  # 3 px or 1.5 µm from the edge, within one diameter of 2.26 µm
    assert known.by_edge[0].high == pytest.approx(4.51 / 2, abs=0.01)
    assert evaluate((truth, truth), (replace(truth, mpp=None), truth)).errors.unit == "µm"  # the prediction says it
    unknown = replace(truth, mpp=None)
    assert evaluate((truth, truth), (unknown, unknown)).errors.unit == "px"


def test_the_score_threshold_is_not_for_average_precision():
    truth = discs((0, 0, 4), (10, 0, 4))
    pred = discs((0, 0, 4), (10, 0, 4), (20, 0, 4), scores=[0.9, 0.3, 0.2])
    everything, sure = evaluate((truth, pred)), evaluate((truth, pred), score_thresh=0.5)
    assert (everything.score_thresh, sure.score_thresh) == (None, 0.5)
    assert sure.map == everything.map == 1
    assert (sure.n_pred, sure.per_class["cell"].n_pred) == (3, 3)
    assert (everything.f1_50, sure.f1_50) == (pytest.approx(4 / 5), pytest.approx(2 / 3))
    assert (sure.per_image[0].n_pred, sure.errors.n_pred) == (1, 1)
    assert (everything.errors.pred["spurious"], sure.errors.pred["spurious"]) == (1, 0)
    assert (everything.errors.truth["missed"], sure.errors.truth["missed"]) == (0, 1)
    assert evaluate((truth, pred), score_thresh=0.3).errors.n_pred == 2  # a score on the threshold counts


def test_worst_images_come_first_and_those_without_cells_not_at_all():
    truth, nothing = discs((0, 0, 4), (10, 0, 4)), discs()
    result = evaluate((truth, truth), (nothing, nothing), (truth, nothing), (truth, truth.select(np.array([0]))))
    assert result.errors.worst_images == ("image2", "image3", "image0")


def test_limits_without_end_are_null_in_json():
    truth = discs((0, 0, 4), (10, 0, 4))
    document = json.loads(evaluate((truth, truth)).to_json())["errors"]
    assert document["truth"]["correct"] == document["n_truth"] == 2
    assert document["by_crowding"][0]["high"] is None
    assert document["by_size"][0]["low"] is None
    assert document["by_size"][0]["high"] == 4.52  # a diameter of 4.5135, rounded up
    assert document["confusion"] == {"labels": ["background", "cell"], "counts": [[0, 0], [0, 2]]}


def test_no_cells_and_no_images():
    for errors in (evaluate().errors, evaluate((discs(), discs())).errors):
        assert (errors.n_truth, errors.n_pred, sum(errors.truth.values()), sum(errors.pred.values())) == (0, 0, 0, 0)
        assert errors.by_size == errors.by_crowding == errors.by_edge == errors.worst_images == ()


label_images = hnp.arrays(np.int64, (6, 7), elements=st.integers(0, 5))


@settings(max_examples=30)  # each makes a whole evaluation
@given(st.lists(st.tuples(label_images, label_images), max_size=3))
def test_every_cell_is_counted_once(pairs):
    cells = [(Instances.from_labels(truth), Instances.from_labels(pred)) for truth, pred in pairs]
    errors = evaluate(*cells).errors
    n_truth, n_pred = (sum(len(pair[side]) for pair in cells) for side in (0, 1))
    assert (errors.n_truth, errors.n_pred) == (n_truth, n_pred)
    assert (sum(errors.truth.values()), sum(errors.pred.values())) == (n_truth, n_pred)
    assert (errors.per_class["cell"].truth, errors.per_class["cell"].pred) == (errors.truth, errors.pred)
    assert sum(map(sum, errors.confusion.counts)) == n_truth + n_pred - errors.truth["correct"]
    for strata in (errors.by_size, errors.by_crowding, errors.by_edge):
        assert (sum(row.n_truth for row in strata), sum(row.n_pred for row in strata)) == (n_truth, n_pred)
        for name in errors.truth:
            assert sum(row.truth[name] for row in strata) == errors.truth[name]
        assert all(a.high <= b.low for a, b in pairwise(strata))
