import logging
import math
from dataclasses import replace

import numpy as np
import pytest

from everycell.metrics import average_precision, average_ranked, rank_cells, weighted_ap50
from everycell.structures import Instances, MaskCrops


def random_disks(rng, n, size=96, n_classes=3):
    """`n` disks that overlap each other often."""
    y, x = np.mgrid[-8:9, -8:9]
    crops = [x * x + y * y <= r * r for r in rng.uniform(3, 8.5, n)]
    masks = MaskCrops.from_crops(rng.integers(0, size - 17, (n, 2)), crops)
    return Instances.from_masks(masks, (size, size), class_ids=rng.integers(1, n_classes + 1, n))


def perturbed(rng, truth):
    """Most cells of `truth` moved a little, some of another class, some invented, with scores of few values."""
    kept = truth.select(rng.random(len(truth)) < 0.8)
    invented = random_disks(rng, 15)
    boxes = np.concatenate([kept.masks.boxes, invented.masks.boxes])
    shift = rng.integers(-2, 3, (len(boxes), 2))
    boxes = (boxes + np.tile(shift, 2)).astype(np.int32)
    boxes -= np.tile(np.minimum(boxes[:, :2], 0), 2)
    boxes -= np.tile(np.maximum(boxes[:, 2:] - truth.image_size[0], 0), 2)
    masks = MaskCrops(boxes, np.concatenate([kept.masks.bits, invented.masks.bits]))
    class_ids = np.concatenate([kept.class_ids, invented.class_ids])
    class_ids[rng.random(len(class_ids)) < 0.1] = 1
    scores = (rng.integers(1, 20, len(masks)) / 20).astype(np.float32)  # with ties
    return Instances.from_masks(masks, truth.image_size, scores=scores, class_ids=class_ids)


def touching_cells():
    """400 cells of 8 by 8 px side by side."""
    labels = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((8, 8), np.int64))
    return Instances.from_labels(labels)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_pycocotools_on_crowded_images(seed, coco_figures):
    rng = np.random.default_rng(seed)
    truths = [random_disks(rng, n) for n in (160, 40, 0)]  # more than COCO's own 100 in the first
    preds = [*(perturbed(rng, truth) for truth in truths[:2]), random_disks(rng, 3)]
    found = average_precision(truths, preds, n_classes=3)
    expected = coco_figures(truths, preds, n_classes=3, max_dets=found.max_dets)
    assert 0.05 < found.map < 0.95
    np.testing.assert_allclose([(c.ap, c.ap50, c.ap75, c.ar) for c in found.per_class], expected, atol=1e-6)
    np.testing.assert_allclose((found.map, found.ap50, found.ap75, found.ar), expected.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_ignored_regions_agree_with_pycocotools(seed, coco_figures):
    rng = np.random.default_rng(seed)
    truths = [random_disks(rng, 80), random_disks(rng, 0)]
    preds = [perturbed(rng, truths[0]), random_disks(rng, 20)]
    halves = [np.ones((96, 48), np.bool_), np.ones((40, 96), np.bool_)]
    regions = [
        Instances.from_masks(MaskCrops.from_crops(np.array([[0, 0], [0, 56]]), halves), (96, 96), class_ids=ids)
        for ids in (np.array([1, 2]), np.array([3, 1]))
    ]
    ranked = [rank_cells(*pair, ignore=of) for *pair, of in zip(truths, preds, regions, strict=True)]
    found = average_ranked(ranked, 3)
    assert ranked[0].ignored.any()
    assert found.map > average_precision(truths, preds, 3).map
    expected = coco_figures(truths, preds, n_classes=3, ignore=regions, max_dets=found.max_dets)
    np.testing.assert_allclose([(c.ap, c.ap50, c.ap75, c.ar) for c in found.per_class], expected, atol=1e-6)


def test_images_may_count_more_than_once():
    rng = np.random.default_rng(0)
    truths = [random_disks(rng, 30) for _ in range(3)]
    ranked = [rank_cells(truth, perturbed(rng, truth)) for truth in truths]
    # Without ties, whose order would depend on where the copies of an image stand.
    ranked = [replace(cells, scores=rng.random(len(cells.scores)).astype(np.float32)) for cells in ranked]
    ap50 = weighted_ap50(ranked, 3)
    assert ap50(np.ones(3)) == pytest.approx(average_ranked(ranked, 3).ap50, abs=1e-12)
    twice = average_ranked([ranked[0], ranked[2], ranked[2]], 3).ap50
    np.testing.assert_allclose(ap50(np.array([[1, 0, 2], [0, 1, 0]])), [twice, average_ranked(ranked[1:2], 3).ap50])
    assert math.isnan(ap50(np.zeros(3)))


def test_perfect_outlines_of_400_touching_cells_score_one(coco_figures):
    cells = touching_cells()
    found = average_precision([cells], [cells], n_classes=1)
    assert (found.map, found.ap50, found.ap75, found.max_dets) == (1, 1, 1, 401)
    # With COCO's limit of 100, recall ends at 100 / 400: 26 of 101 recall levels have precision 1.
    assert coco_figures([cells], [cells])[0, 0] == pytest.approx(26 / 101)


def test_precision_by_hand():
    # Two true cells; by falling score one hit, one false alarm, one hit. Precision is 1 up to recall 0.5 (51 of 101
    # levels) and 2 / 3 above it (50 levels).
    labels = np.zeros((5, 5), np.int64)
    labels[0, :2], labels[4, :2] = 1, 2
    truth = Instances.from_labels(labels)
    alarm = labels.copy()
    alarm[2, :2] = 3
    pred = Instances.from_masks(
        Instances.from_labels(alarm).masks, (5, 5), scores=np.array([0.9, 0.7, 0.8], np.float32)
    )
    assert average_precision([truth], [pred], 1).ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_class_without_truth_is_left_out_of_the_mean():
    truth = touching_cells()
    other_class = Instances.from_masks(truth.masks, truth.image_size, class_ids=np.full(len(truth), 2))
    found = average_precision([truth, truth], [truth, other_class], n_classes=2)
    # Half the cells of class 1 are found (those of the first image); class 2 has no true cell.
    assert found.per_class[0].ap == found.map == pytest.approx(51 / 101)
    assert math.isnan(found.per_class[1].ap)


def test_no_prediction_is_zero_and_no_truth_is_nan():
    cells, nothing = touching_cells(), Instances.empty((160, 160))
    assert average_precision([cells], [nothing], 1).map == 0
    for preds in ([cells], [nothing]):
        found = average_precision([nothing], preds, 1)
        assert math.isnan(found.map)
        assert math.isnan(found.per_class[0].ap50)
    assert math.isnan(average_precision([], [], 1).map)


def test_a_false_positive_never_helps():
    rng = np.random.default_rng(5)
    truth = random_disks(rng, 60, n_classes=1)
    pred = random_disks(rng, 60, n_classes=1)
    pred = Instances.from_masks(
        MaskCrops(
            np.concatenate([truth.masks.boxes, pred.masks.boxes]), np.concatenate([truth.masks.bits, pred.masks.bits])
        ),
        truth.image_size,
        scores=rng.random(120).astype(np.float32),
    )
    with_alarms, without = (
        average_precision([truth], [pred], 1),
        average_precision([truth], [pred.select(np.arange(60))], 1),
    )
    assert with_alarms.map < without.map == pytest.approx(1)


def test_nothing_is_printed_or_logged(capfd, caplog):
    caplog.set_level(logging.DEBUG)
    average_precision([touching_cells()], [touching_cells()], 1)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
