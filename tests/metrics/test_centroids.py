import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everycell.errors import DataError
from everycell.metrics import centroid_scores, pair_centroids
from everycell.structures import Instances, MaskCrops
from everycell.structures.runs import row_runs

SIZE = (200, 200)


def points(*places, classes=None, mpp=None):
    """Cells of one pixel at (x, y)."""
    masks = MaskCrops.from_crops(np.array(places).reshape(-1, 2), [np.ones((1, 1), np.bool_)] * len(places))
    class_ids = None if classes is None else np.array(classes, np.int64)
    return Instances.from_masks(masks, SIZE, class_ids=class_ids, mpp=mpp)


def pairs_of(truth, pred, **radius):
    found = pair_centroids(truth, pred, **radius)
    return list(zip(found.truth.tolist(), found.pred.tolist(), strict=True))


def test_a_pair_lies_within_twelve_pixels():
    truth = points((20, 20), (100, 100))
    assert pairs_of(truth, points((20, 32), (100, 113))) == [(0, 0)]  # 12 px is in, 13 px is not
    assert pairs_of(truth, points((20, 32), (100, 113)), radius_px=13) == [(0, 0), (1, 1)]
    assert pair_centroids(truth, points((23, 24))).distance_px.tolist() == [5]
    given = pair_centroids(truth, truth, runs=(row_runs(truth.masks), row_runs(points((23, 24)).masks)))
    assert given.distance_px.tolist() == [5]


def test_the_smallest_sum_of_distances_decides_before_the_radius():
    # The published rule: 10 + 1 px pairs both; a greedy choice of the nearest would leave true 0 without a partner.
    assert pairs_of(points((0, 0), (11, 0)), points((10, 0), (12, 0))) == [(0, 0), (1, 1)]
    # And 0 + 13 px is less than 12 + 12 px, although it leaves one pair outside the radius.
    truth, pred = points((50, 50), (50, 62)), points((50, 50), (50, 75))
    assert pairs_of(truth, pred) == [(0, 0)]


def test_a_radius_in_micrometres():
    truth, pred = points((0, 0), mpp=0.5), points((7, 0))
    assert pairs_of(truth, pred, radius_um=3.5) == [(0, 0)]
    assert pairs_of(truth, pred, radius_um=3.4) == []
    with pytest.raises(DataError, match=r"3\.5 µm needs µm per pixel, got none"):
        pair_centroids(replace(truth, mpp=None), pred, radius_um=3.5)


def test_scores_by_hand():
    truth = points((0, 0), (50, 0), (100, 0), (150, 0), classes=[1, 1, 2, 1])
    pred = points((1, 0), (51, 0), (101, 0), (0, 100), (0, 150), classes=[1, 2, 2, 2, 2])
    found = centroid_scores([pair_centroids(truth, pred)], 3)
    # Three pairs, one true cell and two predictions alone; the second pair disagrees.
    assert found.f_d == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))
    assert found.accuracy == pytest.approx(2 / 3)
    # Class 1: one right, one paired as class 2, one missed. Class 2: one right, one wrongly so, two alone.
    assert found.f_c[:2] == pytest.approx((2 / (2 + 2 * 1 + 1), 2 / (2 + 2 * 1 + 2)))
    assert math.isnan(found.f_c[2])


def test_counts_are_pooled_over_images():
    one = pair_centroids(points((0, 0)), points((0, 0)))
    three_missed = pair_centroids(points((0, 0), (50, 0), (99, 0)), points())
    assert centroid_scores([one, three_missed], 1).f_d == pytest.approx(2 / (2 + 3))


def test_nothing():
    found = centroid_scores([pair_centroids(points(), points())], 1)
    assert math.isnan(found.f_d)
    assert math.isnan(found.accuracy)
    assert math.isnan(found.f_c[0])
    assert centroid_scores([pair_centroids(points(), points((1, 1)))], 1).f_c == (0,)
    assert centroid_scores([pair_centroids(points((1, 1)), points())], 1).f_d == 0


cells = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 3)), max_size=8)


def instances(drawn, dx=0):
    return points(*((x + dx, y) for x, y, _ in drawn), classes=[c for *_, c in drawn])


@given(cells)
def test_perfect_is_one(drawn):
    image = instances(drawn)
    found = centroid_scores([pair_centroids(image, image)], 3)
    assert math.isnan(found.f_d) if not drawn else found.f_d == 1
    if len({place[:2] for place in drawn}) == len(drawn):  # cells on one spot may exchange their classes
        assert all(math.isnan(f) or f == 1 for f in found.f_c)


@given(cells, cells, st.randoms())
def test_order_and_a_common_shift_change_nothing_but_ties(truth, pred, random):
    pairs = pair_centroids(instances(truth), instances(pred), radius_px=1e9)
    shuffled = random.sample(pred, len(pred))
    again = pair_centroids(instances(truth, dx=30), instances(shuffled, dx=30), radius_px=1e9)
    assert again.distance_px.sum() == pytest.approx(pairs.distance_px.sum())
    assert len(again.truth) == len(pairs.truth) == min(len(truth), len(pred))
    scores = centroid_scores([pairs], 3)
    assert all(math.isnan(f) or 0 <= f <= 1 for f in (scores.f_d, scores.accuracy, *scores.f_c))
