import math
import statistics
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from everycell.metrics import ClassCounts, average_pq, class_counts, overlap_of_labels, panoptic_quality

K = 3


def counts(*classes):
    """Counts of one image; (tp, fp, fn, iou_sum) of each class, where blind counts are their sums."""
    table = np.array([np.sum(classes, axis=0), *classes], np.float64).T
    return ClassCounts(*table[:3].astype(np.int64), table[3])


def classes_of(labels, shift=0):
    """A class for each cell, by its label."""
    return np.array([(v + shift) % K + 1 for v in np.unique(labels) if v], np.int64)


def counts_of(truth, pred, shift=0):
    shared = overlap_of_labels(truth, pred)
    return class_counts(shared, classes_of(truth), classes_of(pred, shift), K)


def test_counts_by_hand(true_grid, pred_grid):
    shared = overlap_of_labels(true_grid, pred_grid)
    found = class_counts(shared, np.array([1, 2, 2]), np.array([1, 2, 2, 1]), 2)
    # One pair lies above 0.5, IoU 4 / 6, and both its cells are of class 1.
    assert found.tp.tolist() == [1, 1, 0]
    assert found.fp.tolist() == [3, 1, 2]
    assert found.fn.tolist() == [2, 0, 2]
    assert found.iou_sum.tolist() == pytest.approx([4 / 6, 4 / 6, 0])
    other = class_counts(shared, np.array([1, 2, 2]), np.array([2, 2, 2, 1]), 2)
    assert (other.tp.tolist(), other.fn.tolist()) == ([1, 0, 0], [2, 1, 2])  # the pair's classes differ


def test_every_rule_by_hand():
    images = [
        counts((2, 0, 0, 1.6), (0, 0, 0, 0)),  # class 1: 0.8; class 2 absent
        counts((1, 1, 1, 0.6), (0, 2, 0, 0)),  # class 1: 0.6 / 2; class 2 predicted only
        counts((0, 0, 2, 0), (3, 0, 0, 2.7)),  # class 1: missed; class 2: 0.9
        counts((0, 1, 0, 0), (0, 0, 0, 0)),  # no true cell
    ]
    found = average_pq(images)
    # Blind: 1.6 / 2, 0.6 / (1 + 3 / 2 + 1 / 2), 2.7 / (3 + 2 / 2); the last image has no truth.
    assert found.bpq == pytest.approx((0.8 + 0.2 + 0.675) / 3)
    assert found.mpq == found.mpq_monusac == pytest.approx((0.8 + 0.3 + (0 + 0.9) / 2) / 3)
    assert found.mpq_monusac_corrected == pytest.approx((0.8 + (0.3 + 0) / 2 + 0.45 + 0) / 4)
    # Pooled: class 1 has TP 3, FP 2, FN 3 and IoU 2.2; class 2 TP 3, FP 2 and IoU 2.7.
    assert found.per_class_pooled == pytest.approx((2.2 / 5.5, 2.7 / 4))
    assert found.mpq_plus == pytest.approx((2.2 / 5.5 + 2.7 / 4) / 2)
    assert found.per_class == pytest.approx(((0.8 + 0.3 + 0) / 3, 0.9))


def test_groups_weigh_alike_in_pannukes_means():
    good, bad, nothing = counts((1, 0, 0, 1)), counts((0, 0, 1, 0)), counts((0, 0, 0, 0))
    found = average_pq([good, good, good, bad, nothing], groups=["colon", "colon", "colon", "lung", "skin"])
    assert found.mpq == found.bpq == pytest.approx((1 + 0) / 2)
    assert found.mpq_monusac == pytest.approx(3 / 4)


def test_false_positives_of_an_absent_class_are_what_separates_the_challenge_from_its_correction():
    image = counts((1, 0, 0, 0.9), (0, 5, 0, 0), (0, 1, 0, 0))
    found = average_pq([image])
    assert found.mpq_monusac == pytest.approx(0.9)
    assert found.mpq_monusac_corrected == pytest.approx(0.9 / 3)


def test_nothing_is_nan():
    found = average_pq([counts((0, 0, 0, 0))])
    flat = [*astuple(found)[:5], *found.per_class, *found.per_class_pooled]
    assert all(map(math.isnan, flat))


label_images = hnp.arrays(np.int64, (6, 7), elements=st.integers(0, 5))


@given(label_images, label_images, st.integers(0, 2))
def test_counts_equal_pq_of_each_class_alone(truth, pred, shift):
    found = counts_of(truth, pred, shift)
    assert found.pq[0] == pytest.approx(panoptic_quality(overlap_of_labels(truth, pred)).pq, nan_ok=True)
    for k in range(1, K + 1):
        of_class = (
            np.where(truth % K + 1 == k, truth, 0),
            np.where((pred + shift) % K + 1 == k, pred, 0),
        )
        alone = panoptic_quality(overlap_of_labels(*of_class))
        assert found.pq[k] == pytest.approx(alone.pq, nan_ok=True)


@given(st.lists(st.tuples(label_images, label_images), min_size=1, max_size=4))
def test_rules_equal_their_words(pairs):
    images = [counts_of(truth, pred, shift=1) for truth, pred in pairs]
    found = average_pq(images)
    challenge, corrected = [], []
    for image in images:
        of_class = list(zip(image.tp[1:], image.fp[1:], image.fn[1:], image.pq[1:], strict=True))
        in_truth = [q for tp, _, fn, q in of_class if tp + fn]
        in_either = [q for tp, fp, fn, q in of_class if tp + fp + fn]
        challenge += [statistics.mean(in_truth)] if in_truth else []
        corrected += [statistics.mean(in_either)] if in_either else []
    assert found.mpq_monusac == pytest.approx(statistics.mean(challenge) if challenge else math.nan, nan_ok=True)
    assert found.mpq == pytest.approx(found.mpq_monusac, nan_ok=True)
    assert found.mpq_monusac_corrected == pytest.approx(
        statistics.mean(corrected) if corrected else math.nan, nan_ok=True
    )
    assert average_pq(images[::-1]).mpq_plus == pytest.approx(found.mpq_plus, nan_ok=True)


@given(label_images)
def test_perfect_is_one_and_nothing_found_is_zero(labels):
    shared, none = overlap_of_labels(labels, labels), overlap_of_labels(labels, np.zeros_like(labels))
    ids, no_ids = classes_of(labels), np.zeros(0, np.int64)
    perfect = astuple(average_pq([class_counts(shared, ids, ids, K)]))[:5]
    missed = astuple(average_pq([class_counts(none, ids, no_ids, K)]))[:5]
    assert (perfect, missed) == ((1,) * 5, (0,) * 5) if labels.any() else all(map(math.isnan, perfect + missed))
