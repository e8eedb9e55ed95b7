import json
import math
import time

import numpy as np
import pytest

from everycell.errors import DataError
from everycell.evaluate import Evaluator
from everycell.structures import Instances, MaskCrops

SIZE = (10, 10)


def squares(origins, side=2, **fields):
    """Cells of `side` by `side` px at (x, y) `origins` on a 10 by 10 image."""
    crops = [np.ones((side, side), np.bool_)] * len(origins)
    return Instances.from_masks(MaskCrops.from_crops(np.array(origins).reshape(-1, 2), crops), SIZE, **fields)


def evaluate(*pairs, class_names=("cell",), **options):
    evaluator = Evaluator(class_names, **options)
    for i, (truth, pred) in enumerate(pairs):
        evaluator.add(f"image{i}", truth, pred)
    return evaluator.result()


def test_perfect_predictions_score_one_everywhere():
    truth = squares([(0, 0), (4, 4), (7, 2)], class_ids=np.array([1, 2, 2]))
    result = evaluate((truth, truth), class_names=("round", "long"))
    assert (result.map, result.ap50, result.ap75, result.pq, result.aji, result.dice, result.f1_50) == (1,) * 7
    assert (result.n_images, result.n_truth, result.n_pred, result.max_dets) == (1, 3, 3, 4)
    assert {name: (c.ap, c.n_truth, c.n_pred) for name, c in result.per_class.items()} == {
        "round": (1, 1, 1),
        "long": (1, 2, 2),
    }
    assert all(rate.pooled.f1 == rate.image_mean.dsb_ap == 1 for rate in result.thresholds)


def test_pooled_and_mean_differ_as_computed_by_hand():
    three = [(0, 0), (4, 4), (7, 2)]
    all_found = (squares(three), squares(three))  # TP 3
    half_found = (squares(three[:1]), squares([(0, 0), (6, 6)]))  # TP 1, FP 1
    result = evaluate(all_found, half_found)
    assert result.f1_50 == pytest.approx(8 / 9)  # pooled: TP 4, FP 1
    assert result.pq == pytest.approx((1 + 2 / 3) / 2)  # of the images: 1 and 2 / (2 + 1)
    assert result.aji == pytest.approx((1 + 4 / 8) / 2)
    assert result.dice == pytest.approx((1 + 2 * 4 / (4 + 8)) / 2)
    at_half = result.thresholds[0]
    assert (at_half.iou, at_half.pooled.precision, at_half.pooled.recall) == (0.5, pytest.approx(4 / 5), 1)
    assert at_half.pooled.dsb_ap == pytest.approx(4 / 5)
    assert at_half.image_mean.dsb_ap == pytest.approx((1 + 1 / 2) / 2)
    assert at_half.image_mean.f1 == pytest.approx((1 + 2 / 3) / 2)
    assert [(row.name, row.n_truth, row.n_pred, row.pq) for row in result.per_image] == [
        ("image0", 3, 3, 1),
        ("image1", 1, 2, pytest.approx(2 / 3)),
    ]


def test_a_shared_pixel_goes_to_the_higher_score():
    truth = squares([(0, 0)], side=3)
    # The better one covers the truth; the other one, 3 to the right of it by 1 px, loses its overlap and stays alone.
    boxes = [(0, 0), (1, 0)]
    pred = squares(boxes, side=3, scores=np.array([0.9, 0.8], np.float32))
    assert evaluate((truth, pred)).per_image[0].sq == 1
    worse_first = squares(boxes, side=3, scores=np.array([0.8, 0.9], np.float32))
    # Now the wrong one keeps all its pixels, 6 of 9 + 3 with the truth: IoU exactly 0.5 is no match.
    assert evaluate((truth, worse_first)).f1_50 == 0


def test_an_image_without_cells_is_left_out_of_the_means():
    truth, nothing = squares([(0, 0), (5, 5)]), Instances.empty(SIZE)
    result = evaluate((truth, truth), (nothing, nothing))
    assert (result.pq, result.aji, result.dice, result.map, result.n_images) == (1, 1, 1, 1, 2)
    assert math.isnan(result.per_image[1].pq)
    assert evaluate((truth, truth), (nothing, truth)).pq == 0.5  # cells where there are none count


def test_nothing_at_all_is_null_in_json():
    document = json.loads(evaluate((Instances.empty(SIZE), Instances.empty(SIZE))).to_json())
    assert document["map"] is document["pq"] is document["f1_50"] is None
    assert document["n_images"] == 1


def test_json_holds_what_scripts_rely_on():
    truth = squares([(0, 0), (5, 5)])
    document = json.loads(evaluate((truth, truth.select(np.array([0])))).to_json())
    expected = {"map", "ap50", "ap75", "per_class", "pq", "aji", "f1_50", "dice", "max_dets"}
    assert expected | {"n_images", "n_truth", "n_pred"} <= document.keys()
    assert document["map"] == pytest.approx(51 / 101)  # recall ends at a half
    of_class = document["per_class"]["cell"]
    assert [of_class[name] for name in ("ap", "ap50", "ap75")] == [pytest.approx(document["map"])] * 3
    assert (of_class["n_truth"], of_class["n_pred"]) == (2, 1)
    assert [row["iou"] for row in document["thresholds"]] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


def test_another_size_is_an_error_that_names_the_image():
    with pytest.raises(DataError, match=r"^a7: .* \(10, 10\) \(height, width\), got \(5, 5\)"):
        Evaluator(["cell"]).add("a7", Instances.empty(SIZE), Instances.empty((5, 5)))


def test_an_unknown_class_is_an_error_that_lists_the_known_ones():
    strange = squares([(0, 0)], class_ids=np.array([3]))
    with pytest.raises(DataError, match=r"^a7: class ids of the prediction must be 1 to 2 \(x, y\), got 3"):
        Evaluator(["x", "y"]).add("a7", Instances.empty(SIZE), strange)


@pytest.mark.parametrize("score", [np.nan, -0.1, 1.5])
def test_a_score_outside_0_to_1_is_an_error(score):
    truth = squares([(0, 0), (5, 5)])
    pred = squares([(0, 0), (5, 5)], scores=np.array([0.5, score], np.float32))
    with pytest.raises(DataError, match=r"^a7: scores of the prediction must be from 0 to 1, got .* \(1 of 2 "):
        Evaluator(["cell"]).add("a7", truth, pred)


def test_a_name_that_comes_twice_is_an_error():
    evaluator = Evaluator(["cell"])
    evaluator.add("a7", squares([(0, 0)]), squares([(0, 0)]))
    with pytest.raises(DataError, match=r"^a7: image names must differ"):
        evaluator.add("a7", squares([(0, 0)]), squares([(0, 0)]))


def test_no_image_at_all_has_no_figure_and_says_so():
    result = Evaluator(["x", "y"]).result()
    assert (result.n_images, result.n_truth, result.max_dets, result.notes) == (0, 0, 1, ("no image was compared",))
    figures = [result.map, result.ar, result.pq, result.aji_plus, result.f1_50, result.panoptic.mpq_plus]
    assert all(map(math.isnan, [*figures, result.centroids.f_d, result.boundary.f1, result.count.bias]))


def test_classes_are_told_apart_by_hand():
    # Class x: found, and another one taken for y. Class y: one that is not found.
    truth = squares([(0, 0), (4, 0), (0, 6)], class_ids=np.array([1, 1, 2]))
    pred = squares([(0, 0), (4, 0)], class_ids=np.array([1, 2]), scores=np.array([0.9, 0.4], np.float32))
    result = evaluate((truth, pred), class_names=("x", "y", "absent"))
    x, y, absent = result.per_class.values()
    assert (x.panoptic.pq, x.panoptic.sq, y.panoptic.pq) == (pytest.approx(1 / 1.5), 1, 0)
    assert result.panoptic.mpq_plus == pytest.approx((1 / 1.5 + 0) / 2)  # the absent class is left out
    assert result.panoptic.pooled.pq == pytest.approx(2 / 2.5)
    assert (x.f_c, y.f_c) == (pytest.approx(2 / (2 + 2)), 0)
    assert result.centroids.accuracy == 0.5
    assert result.class_agnostic.ap50 == pytest.approx(67 / 101)  # recall ends at 2 / 3
    assert result.class_agnostic.ar == pytest.approx(2 / 3)
    assert (x.ar, y.ar, result.ar) == (0.5, 0, 0.25)
    assert (x.count.bias, y.count.bias, result.count.bias) == (-1, 0, -1)
    assert (x.best_threshold.score_thresh, x.best_threshold.f1) == (0.9, pytest.approx(2 / 3))
    assert math.isnan(y.best_threshold.score_thresh)
    assert (result.best_threshold.score_thresh, result.best_threshold.f1) == (0.4, 0.8)  # blind to classes
    assert result.calibration.ece == pytest.approx((abs(1 - 0.9) + abs(0 - 0.4)) / 2)
    assert all(map(math.isnan, (absent.ap, absent.panoptic.pq, absent.f_c, absent.best_threshold.f1)))


def test_label_images_have_no_calibration_and_no_best_threshold():
    cells = squares([(0, 0), (5, 5)])
    result = evaluate((cells, cells))
    assert result.calibration is result.best_threshold is result.per_class["cell"].best_threshold is None
    assert "all predictions score the same" in result.notes[0]


def test_outlines_and_radius_in_pixels_and_micrometres():
    truth, pred = squares([(0, 0)], side=5, mpp=0.5), squares([(1, 0)], side=5)
    result = evaluate((truth, pred))
    assert (result.boundary.n_pairs, result.boundary.hausdorff.px, result.boundary.hausdorff.um) == (1, 1, 0.5)
    assert (result.centroids.radius.px, result.centroids.radius.um) == (12, 6)
    assert result.centroids.f_d == 1
    near = evaluate((truth, pred), radius_um=0.4, tolerance_um=0.4)
    assert (near.centroids.radius.px, near.centroids.f_d) == (0.8, 0)  # the centroids are 1 px apart
    assert near.boundary.f1 < 1 == result.boundary.f1
    unknown = evaluate((squares([(0, 0)]), squares([(0, 0)])))
    assert math.isnan(unknown.boundary.hausdorff.um)
    assert math.isnan(unknown.centroids.radius.um)
    with pytest.raises(DataError, match=r"^image0: lengths in µm need µm/px"):
        evaluate((squares([(0, 0)]), squares([(0, 0)])), radius_um=3)


def test_ignored_regions_count_neither_way():
    truth = squares([(0, 0), (4, 0)])
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    pred = squares([(0, 0), (4, 0), (6, 6), (0, 7)], scores=scores)  # the last two are wrong
    evaluator = Evaluator(["cell"])
    evaluator.add("a", truth, pred, squares([(4, 4)], side=5))  # holds the third, not the fourth
    result = evaluator.result()
    assert (result.n_pred, result.errors.pred["spurious"], result.f1_50) == (3, 1, pytest.approx(4 / 5))
    assert (result.map, result.count.bias) == (1, 1)
    assert result.notes == ("a: 1 of 4 predictions lie in ignored regions and were left out",)
    everywhere = squares([(0, 0)], side=10)
    evaluator = Evaluator(["cell"])
    evaluator.add("a", truth, pred, everywhere)
    assert (evaluator.result().f1_50, evaluator.result().n_pred) == (1, 2)  # what is right still counts


def test_masks_can_be_dropped_without_another_result():
    truth = squares([(0, 0), (4, 4), (7, 2)])
    pred = squares([(0, 0), (5, 4), (7, 7)], scores=np.array([0.9, 0.8, 0.7], np.float32))
    lean, full = Evaluator(["cell"], keep_masks=False), Evaluator(["cell"])
    for evaluator in (lean, full):
        evaluator.add("a", truth, pred)
    assert lean.result().to_json() == full.result().to_json()
    assert (lean.images[0].pred.masks.bits.size, full.images[0].pred.masks.bits.size) == (0, 12)


def test_an_epoch_of_sixty_images_with_fifty_cells_is_quick():
    rng = np.random.default_rng(0)
    crops = [np.ones((15, 15), np.bool_)] * 50
    evaluator = Evaluator(["cell"])
    start = time.process_time()
    for i in range(60):
        masks = MaskCrops.from_crops(rng.integers(0, 240, (50, 2)), crops)
        evaluator.add(str(i), Instances.from_masks(masks, (256, 256)), Instances.from_masks(masks, (256, 256)))
    assert evaluator.result().map == 1
    assert time.process_time() - start < 4  # 0.9 s; the margin is for loaded machines
