import contextlib
import io
import logging
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from everycell.metrics import average_precision
from everycell.structures import Instances, MaskCrops


def full_mask(cells, i):
    rows, columns, bits = list(cells.masks)[i]
    full = np.zeros(cells.image_size, np.uint8, order="F")
    full[rows, columns] = bits
    return full


def as_coco(images, categories):
    coco = COCO()
    annotations = []
    for image_id, cells in enumerate(images, start=1):
        for i in range(len(cells)):
            rle = coco_mask.encode(full_mask(cells, i))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(cells.class_ids[i]),
                    "segmentation": rle,
                    "area": float(coco_mask.area(rle)),
                    "score": float(cells.scores[i]),
                    "iscrowd": 0,
                }
            )
    coco.dataset = {
        "images": [{"id": i, "height": c.image_size[0], "width": c.image_size[1]} for i, c in enumerate(images, 1)],
        "categories": [{"id": k} for k in categories],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def pycocotools_ap(truths, preds, n_classes, max_dets):
    """AP, AP50, AP75 of each class, -1 where it has no truth, by the reference implementation."""
    categories = range(1, n_classes + 1)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(as_coco(truths, categories), as_coco(preds, categories), "segm")
        evaluation.params.maxDets = [max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0].mean(axis=1)
    return np.stack([precision.mean(axis=0), precision[0], precision[5]], axis=1)


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
def test_agrees_with_pycocotools_on_crowded_images(seed):
    rng = np.random.default_rng(seed)
    truths = [random_disks(rng, n) for n in (160, 40, 0)]  # more than COCO's own 100 in the first
    preds = [*(perturbed(rng, truth) for truth in truths[:2]), random_disks(rng, 3)]
    found = average_precision(truths, preds, n_classes=3)
    expected = pycocotools_ap(truths, preds, 3, max_dets=found.max_dets)
    assert 0.05 < found.map < 0.95
    np.testing.assert_allclose([(c.ap, c.ap50, c.ap75) for c in found.per_class], expected, atol=1e-6)
    np.testing.assert_allclose((found.map, found.ap50, found.ap75), expected.mean(axis=0), atol=1e-6)


def test_perfect_outlines_of_400_touching_cells_score_one():
    cells = touching_cells()
    found = average_precision([cells], [cells], n_classes=1)
    assert (found.map, found.ap50, found.ap75, found.max_dets) == (1, 1, 1, 401)
    # With COCO's limit of 100, recall ends at 100 / 400: 26 of 101 recall levels have precision 1.
    assert pycocotools_ap([cells], [cells], 1, max_dets=100)[0, 0] == pytest.approx(26 / 101)


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
