"""What every measure promises, whatever the image: one table of all measures, held against each promise."""

import math
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import KDTree

from everycell.metrics import (
    IOU_THRESHOLDS,
    Category,
    Counts,
    aggregated_jaccard_index,
    aggregated_jaccard_index_plus,
    analyse_errors,
    average_pq,
    average_precision,
    boundary_agreement,
    centroid_scores,
    class_counts,
    confusion_matrix,
    count_errors,
    dice,
    match,
    overlap,
    pair_centroids,
    panoptic_quality,
)
from everycell.structures import Instances, MaskCrops

K = 3
LABELS = np.arange(64)
TRUE_CLASSES = 1 + LABELS % K
PRED_CLASSES = np.where(LABELS % 7, TRUE_CLASSES, 1)  # some are wrong
SCORES = (1 + np.random.default_rng(0).permutation(64)).astype(np.float32) / 64  # no two are alike
ALARM = 63

NEED_TRUTH = {"map", "ap50", "ap75", "ar", "bpq", "mpq", "mpq_monusac"}
"""Measures of images, or of classes, that hold a true cell: NaN without any."""

NEED_PAIRS = {"class_accuracy", "boundary_f1", "boundary_precision", "boundary_recall"}
"""Measures of cells that found a partner: NaN without any."""

BY_CENTROID = {"f_d", "class_accuracy", "f_c1", "f_c2", "f_c3"}
"""Where two pairings have the same sum of distances, as of tiny cells in a row, the published rule is open."""

few = settings(max_examples=30)
noise = hnp.arrays(np.int64, (6, 7), elements=st.integers(0, 5))


def of_image(truth, pred):
    """The measures that are taken image by image."""
    shared = overlap(truth.masks, pred.masks)
    edges = boundary_agreement(truth, pred, match(shared.iou(), 0.5))
    found = asdict(panoptic_quality(shared)) | {"dice": dice(shared)}
    found |= {"aji": aggregated_jaccard_index(shared), "aji_plus": aggregated_jaccard_index_plus(shared)}
    for name in ("precision", "recall", "f1"):
        values = getattr(edges, name)
        found[f"boundary_{name}"] = float(values.mean()) if len(values) else math.nan
    return found


def of_images(*images):
    """The measures of any number of images together."""
    overlaps = [overlap(truth.masks, pred.masks) for truth, pred in images]
    found = {}
    for threshold in IOU_THRESHOLDS:
        counts = sum((match(shared.iou(), threshold).counts for shared in overlaps), Counts())
        found |= {f"{rate} at {threshold}": getattr(counts, rate) for rate in ("precision", "recall", "f1", "dsb_ap")}
    rules = average_pq(
        [class_counts(shared, t.class_ids, p.class_ids, K) for shared, (t, p) in zip(overlaps, images, strict=True)]
    )
    found |= {name: value for name, value in asdict(rules).items() if isinstance(value, float)}
    precision = average_precision(*zip(*images, strict=True), K)
    found |= {name: getattr(precision, name) for name in ("map", "ap50", "ap75", "ar")}
    centroids = centroid_scores([pair_centroids(*image) for image in images], K)
    found |= {"f_d": centroids.f_d, "class_accuracy": centroids.accuracy}
    return found | {f"f_c{k}": value for k, value in enumerate(centroids.f_c, start=1)}


def measures(truth, pred):
    """Every measure of one image by name, each in [0, 1] with 1 for the best."""
    return of_image(truth, pred) | of_images((truth, pred))


def cells(labels, classes):
    masks, values = MaskCrops.from_labels(labels)
    return Instances.from_masks(masks, labels.shape, class_ids=classes[values], scores=SCORES[values])


def truth_of(labels):
    return cells(labels, TRUE_CLASSES)


def pred_of(labels):
    return cells(labels, PRED_CLASSES)


def crowd(centres, radius, size):
    """Labels of cells that grow from their centres until they touch."""
    distances, nearest = KDTree(centres).query(np.stack(np.indices(size), axis=-1))
    return np.where(distances <= radius, nearest + 1, 0)


@st.composite
def scenes(draw):
    """True and predicted labels of a crowded image: cells are moved, missed, merged, split and invented."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.tuples(*[st.integers(1, 36)] * 2))
    n, invented = draw(st.integers(1, 25)), draw(st.integers(0, 4))
    missed, blur, radius = draw(st.integers(0, 3)), draw(st.sampled_from([0, 0.7, 2])), draw(st.integers(1, 6))
    centres = rng.uniform(0, size, (n, 2))
    found = np.concatenate([centres + rng.normal(0, blur, (n, 2)), rng.uniform(0, size, (invented, 2))])
    found[:missed] = -100  # far outside
    return crowd(centres, radius, size), crowd(found, radius, size)


images = scenes() | st.tuples(noise, noise)


def nearly(expected):
    return pytest.approx(expected, abs=1e-9, nan_ok=True)


@few
@given(images)
def test_all_lie_between_zero_and_one(image):
    found = measures(truth_of(image[0]), pred_of(image[1]))
    assert {name: value for name, value in found.items() if not (math.isnan(value) or 0 <= value <= 1)} == {}
    assert found["pq"] == nearly(found["sq"] * found["dq"])
    assert found["f1 at 0.5"] == nearly(found["dq"])
    for rate in ("precision", "recall", "f1", "dsb_ap"):
        values = [found[f"{rate} at {threshold}"] for threshold in IOU_THRESHOLDS]
        assert values == sorted(values, reverse=True) or all(map(math.isnan, values))


@few
@given(scenes())  # not noise, where cells of two classes can have one centroid
def test_a_perfect_prediction_scores_one(image):
    labels, _ = image
    assume(labels.any())
    missing = {f"f_c{k}" for k in range(1, K + 1)} - {f"f_c{k}" for k in TRUE_CLASSES[np.unique(labels[labels > 0])]}
    for name, value in measures(truth_of(labels), truth_of(labels)).items():
        assert value == (nearly(1) if name not in missing else nearly(math.nan)), name


@few
@given(images)
def test_one_side_empty(image):
    labels, _ = image
    assume(labels.any())
    nothing = np.zeros_like(labels)
    classes = {f"f_c{k}" for k in range(1, K + 1)}
    for truth, pred, unknown in (
        (labels, nothing, NEED_PAIRS),
        (nothing, labels, NEED_PAIRS | NEED_TRUTH),
    ):
        for name, value in measures(truth_of(truth), pred_of(pred)).items():
            assert value == 0 or (math.isnan(value) and name in unknown | classes), name


def test_an_image_without_any_cell_has_no_measure():
    nothing = Instances.empty((5, 7))
    assert {name for name, value in measures(nothing, nothing).items() if not math.isnan(value)} == set()


TURNS = [np.transpose, np.rot90, np.fliplr]


def renumbered(side, rng):
    return side.select(rng.permutation(len(side)))


def by_outline(found):
    return {name: value for name, value in found.items() if name not in BY_CENTROID}


@few
@given(images, st.integers(0, 2**32 - 1))
def test_the_numbering_of_cells_does_not_matter(image, seed):
    rng, truth, pred = np.random.default_rng(seed), truth_of(image[0]), pred_of(image[1])
    found = measures(renumbered(truth, rng), renumbered(pred, rng))
    assert by_outline(found) == nearly(by_outline(measures(truth, pred)))


@few
@given(images, st.tuples(*[st.integers(0, 9)] * 4))
def test_moving_both_sides_changes_nothing(image, border):
    before = measures(truth_of(image[0]), pred_of(image[1]))
    truth, pred = (np.pad(labels, (border[:2], border[2:])) for labels in image)
    assert by_outline(measures(truth_of(truth), pred_of(pred))) == nearly(by_outline(before))


@few
@given(images, st.sampled_from(TURNS))
def test_turning_both_sides_changes_nothing(image, turn):
    before = measures(truth_of(image[0]), pred_of(image[1]))
    assert by_outline(measures(truth_of(turn(image[0])), pred_of(turn(image[1])))) == nearly(by_outline(before))


@pytest.mark.parametrize("turn", [*TURNS, lambda labels: np.pad(labels, ((3, 0), (5, 2)))])
def test_scores_by_centroid_of_cells_that_are_renumbered_moved_and_turned(turn):
    rng = np.random.default_rng(6)
    for _ in range(5):
        centres = rng.uniform(0, 60, (30, 2))
        image = [crowd(places, 6, (60, 60)) for places in (centres, centres[:-2] + rng.normal(0, 3, (28, 2)))]
        before = of_images((truth_of(image[0]), pred_of(image[1])))
        after = of_images((renumbered(truth_of(turn(image[0])), rng), renumbered(pred_of(turn(image[1])), rng)))
        assert {name: after[name] for name in BY_CENTROID} == nearly({name: before[name] for name in BY_CENTROID})
        assert 0.2 < before["f_c1"] < before["f_d"] < 1


def with_alarm(truth, pred, place):
    """`pred` with one more cell, where neither side has any."""
    free = np.argwhere((truth == 0) & (pred == 0))
    assume(len(free))
    near = np.abs(free - free[place % len(free)]).max(axis=1) <= 2
    alarmed = pred.copy()
    alarmed[tuple(free[near].T)] = ALARM
    return alarmed


@few
@given(images, st.integers(0, 2000))
def test_a_false_positive_never_helps(image, place):
    truth, pred = image
    before = measures(truth_of(truth), pred_of(pred))
    after = measures(truth_of(truth), pred_of(with_alarm(truth, pred, place)))
    for name in before.keys() - BY_CENTROID:  # they have an exception, see below
        if math.isnan(before[name]):
            assert math.isnan(after[name]) or after[name] == 0, name
        elif name == "sq" or name in NEED_PAIRS:
            assert after[name] == before[name], name  # matched cells alone count
        elif "recall" in name:
            assert after[name] == before[name], name
        else:
            assert after[name] <= before[name] + 1e-9, name


def test_a_false_positive_can_raise_the_detection_score_by_changing_the_pairing():
    # All distances are summed before the radius counts: 13 + 1000 px is less than 12 + 1025 px, so neither pair is
    # near. The false alarm at 45, 20 px from any true cell, takes the second one: 12 + 20 px, and one pair is near.
    def row(*places):
        labels = np.zeros((1, 1100), np.int64)
        labels[0, np.array(places) + 1050] = np.arange(1, len(places) + 1)
        return Instances.from_labels(labels)

    truth = row(0, 25)
    scores = [centroid_scores([pair_centroids(truth, pred)], 1).f_d for pred in (row(12, -1000), row(12, -1000, 45))]
    assert scores == [0, nearly(2 / (2 + 2 + 1))]


@few
@given(scenes(), st.integers(0, 2000))
def test_a_false_positive_beside_a_perfect_prediction_costs_its_share_of_the_detection_score(image, place):
    labels, _ = image
    n = len(np.unique(labels[labels > 0]))
    assume(n)
    image = truth_of(labels), truth_of(with_alarm(labels, labels, place))
    assert of_images(image)["f_d"] == nearly(2 * n / (2 * n + 1))


@few
@given(images)
def test_error_categories_add_up_to_the_cells(image):
    truth, pred = truth_of(image[0]), pred_of(image[1])
    errors = analyse_errors(truth, pred)
    table = confusion_matrix(truth, pred, errors, K)
    counts = match(overlap(truth.masks, pred.masks).iou(), 0.5).counts
    of_truth, of_pred = (Counter(side.category.tolist()) for side in (errors.truth, errors.pred))
    assert (of_truth.total(), of_pred.total()) == (len(truth), len(pred))
    for side in (of_truth, of_pred):
        assert side[Category.CORRECT] == np.trace(table)
        assert side[Category.CORRECT] + side[Category.WRONG_CLASS] == counts.tp == table[1:, 1:].sum()
    assert (table[1:, 0].sum(), table[0, 1:].sum()) == (counts.fn, counts.fp)


@few
@given(images, st.integers(0, 2000))
def test_error_categories_of_moved_turned_and_invented_cells(image, place):
    truth, pred = image
    before = analyse_errors(truth_of(truth), pred_of(pred))
    for change in (*TURNS, lambda labels: np.pad(labels, 3)):
        after = analyse_errors(truth_of(change(truth)), pred_of(change(pred)))
        assert after.truth.category.tolist() == before.truth.category.tolist()
        assert after.pred.category.tolist() == before.pred.category.tolist()
    after = analyse_errors(truth_of(truth), pred_of(with_alarm(truth, pred, place)))
    assert after.truth.category.tolist() == before.truth.category.tolist()
    assert after.pred.category.tolist() == [*before.pred.category.tolist(), Category.SPURIOUS]


@few
@given(images)
def test_count_error(image):
    truth, pred = truth_of(image[0]), pred_of(image[1])
    counts = match(overlap(truth.masks, pred.masks).iou(), 0.5).counts
    blind, *_ = found = count_errors([truth.class_ids], [pred.class_ids], K)
    assert (blind.n_truth, blind.n_pred, blind.bias) == (len(truth), len(pred), counts.fp - counts.fn)
    assert sum(of_class.bias for of_class in found[1:]) == blind.bias
    # Outlines do not matter: an invented cell makes up for a missed one, and helps where too few are found.
    alarmed = np.append(pred.class_ids, 1)
    after = count_errors([truth.class_ids], [alarmed], K)[0]
    assert after.absolute == blind.absolute + (-1 if len(pred) < len(truth) else 1)


@few
@given(st.lists(scenes(), min_size=2, max_size=3))
def test_neither_the_order_of_images_nor_a_copy_of_each_matters(scene):
    fields = []
    for i, (truth, pred) in enumerate(scene):
        found = pred_of(pred)  # scores stay apart: cells of equal score count in the order of their images
        fields.append((truth_of(truth), replace(found, scores=found.scores - np.float32(i / 256))))
    expected = nearly(of_images(*fields))
    assert of_images(*fields[::-1]) == expected
    assert of_images(*fields, *fields) == expected
