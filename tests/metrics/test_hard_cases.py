"""Images that evaluators get wrong: many cells or none, cells of one pixel, of several parts or on top of others."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from everycell.evaluate import Evaluator
from everycell.metrics import (
    IOU_THRESHOLDS,
    Counts,
    average_precision,
    boundary_agreement,
    match,
    overlap,
    overlap_of_labels,
    pair_centroids,
)
from everycell.structures import Instances, MaskCrops

TOP = ("map", "ap50", "ap75", "ar", "pq", "aji", "aji_plus", "dice", "f1_50")


def evaluate(*images):
    """The result for images of one class: (truth, prediction) or (truth, prediction, ignored regions)."""
    evaluator = Evaluator(["cell"])
    for i, image in enumerate(images):
        evaluator.add(str(i), *image)
    return evaluator.result()


def top(result):
    return [getattr(result, name) for name in TOP]


def coco(result):
    return [result.map, result.ap50, result.ap75, result.ar]


def row(*values):
    """A label image of one row of pixels."""
    return np.array([values])


def stacked(*masks, scores=None):
    """Cells of one image from full masks, which may overlap; by falling score unless given."""
    crops = [mask.astype(np.bool_) for mask in masks]
    scores = np.linspace(1, 0.5, len(masks)) if scores is None else np.array(scores)
    cells = MaskCrops.from_crops(np.zeros((len(masks), 2), int), crops)
    return Instances.from_masks(cells, crops[0].shape, scores=scores.astype(np.float32))


def touching_squares():
    """400 cells of 8 by 8 px side by side, on all edges of the image."""
    return np.kron(np.arange(1, 401).reshape(20, 20), np.ones((8, 8), np.int64))


# Many cells


def test_400_touching_cells_found_perfectly(coco_figures):
    cells = Instances.from_labels(touching_squares())
    result = evaluate((cells, cells))
    assert top(result) == [1] * len(TOP)
    assert result.max_dets == 401
    # COCO's own limit ends recall at 100 / 400, which reaches 26 of the 101 recall levels.
    assert coco_figures([cells], [cells])[0, 0] == pytest.approx(26 / 101)


def test_three_thousand_cells_are_quick():
    labels = np.kron(np.arange(1, 3026).reshape(55, 55), np.ones((20, 20), np.int64))
    moved = np.where(np.roll(labels, 3, axis=1) % 11, np.roll(labels, 3, axis=1), 0)
    truth, pred = Instances.from_labels(labels), Instances.from_labels(moved)
    start = time.process_time()
    result = evaluate((truth, pred))
    elapsed = time.process_time() - start
    assert (result.n_truth, result.n_pred) == (3025, 2750)
    assert 0.5 < result.f1_50 < 1
    assert elapsed < 4  # 0.8 s; the margin is for loaded machines


# Few cells


def test_empty_images_among_others():
    nothing, cell = Instances.empty((4, 4)), Instances.from_labels(np.eye(4, dtype=np.int64))
    assert all(map(math.isnan, top(evaluate((nothing, nothing)))))
    assert top(evaluate((cell, nothing))) == [0] * len(TOP)
    assert top(evaluate((nothing, cell))) == pytest.approx([math.nan] * 4 + [0] * 5, nan_ok=True)  # AP needs truth
    missed, invented, right, empty = (cell, nothing), (nothing, cell), (cell, cell), (nothing, nothing)
    result = evaluate(missed, invented, right, right, empty)
    assert (result.pq, result.aji, result.dice) == (2 / 4, 2 / 4, 2 / 4)  # the empty image is left out
    assert result.f1_50 == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert result.panoptic.bpq == pytest.approx(2 / 3)  # PanNuke also leaves out the one without truth


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_smallest_images(size):
    cells = Instances.from_labels(np.ones(size, np.uint8))
    assert top(evaluate((cells, cells))) == [1] * len(TOP)


def test_cells_of_one_pixel():
    labels = np.arange(1, 401).reshape(20, 20)
    truth = Instances.from_labels(labels)
    assert top(evaluate((truth, truth))) == [1] * len(TOP)
    gone = Instances.from_labels(np.where(np.arange(20) % 2, labels, 0))
    result = evaluate((truth, gone))
    assert (result.f1_50, result.pq, result.aji) == pytest.approx((2 * 200 / 600, 2 * 200 / 600, 1 / 2))
    assert result.boundary.f1 == 1


# Numbers in label images


@pytest.mark.parametrize(
    ("dtype", "first", "step"),
    [
        (np.uint8, 1, 27),
        (np.uint16, 65_535 - 8 * 5000, 5000),
        (np.int32, 70_000, 65_536),
        (np.uint32, 2**32 - 1 - 8 * 65_536, 65_536),
        (np.int64, 2**40, 2**33),
    ],
)
def test_label_values_do_not_matter(dtype, first, step):
    truth = np.kron(np.arange(9).reshape(3, 3), np.ones((6, 6), np.int64))
    pred = np.roll(truth, 2, axis=1)
    expected = overlap_of_labels(truth, pred)
    values = np.append(0, first + step * np.arange(8)).astype(dtype)
    found = overlap_of_labels(values[truth], values[pred])
    assert len(np.unique(values)) == 9
    assert found.pixels.toarray().tolist() == expected.pixels.toarray().tolist()
    wide, narrow = (
        evaluate([Instances.from_labels(v[side]) for side in (truth, pred)]) for v in (values, np.arange(9))
    )
    assert top(wide) == top(narrow)
    assert 0 < wide.aji < 1


# Cells of unusual shape and place


def test_a_cell_of_two_parts_is_one_cell(coco_figures):
    truth, half = (Instances.from_labels(row(*values)) for values in ((1, 1, 1, 0, 0, 1, 1), (1, 1, 1, 0, 0, 0, 0)))
    swapped = Instances.from_labels(row(1, 1, 1, 0, 0, 2, 2))
    result = evaluate((truth, half))
    assert (result.n_truth, result.f1_50, result.aji) == (1, 1, 3 / 5)  # IoU 3 / 5
    assert result.ap50 == 1
    assert result.map == pytest.approx(3 / 10)  # at IoU 0.50, 0.55 and 0.60
    assert coco(result) == pytest.approx(coco_figures([truth], [half])[0])
    # Its boundary is that of both parts, and its centroid lies between them: (0 + 1 + 2 + 5 + 6) / 5 = 2.8.
    matches = match(overlap(truth.masks, half.masks).iou(), 0.5)
    assert boundary_agreement(truth, half, matches).hausdorff_px.tolist() == [4]
    assert pair_centroids(truth, half).distance_px.tolist() == pytest.approx([1.8])
    parts = evaluate((truth, swapped))
    assert (parts.n_pred, parts.f1_50) == (2, pytest.approx(2 / 3))
    assert parts.errors.truth["correct"] == 1
    assert parts.errors.pred["split"] == 1


def test_cells_on_every_edge_keep_their_boundary_there():
    cells = Instances.from_labels(touching_squares()[:16, :16])
    inner = np.zeros((16, 16), np.int64)
    inner[1:-1, 1:-1] = touching_squares()[1:15, 1:15]
    pred = Instances.from_labels(inner)
    result = evaluate((cells, pred))
    assert (result.f1_50, result.aji) == (1, pytest.approx(49 / 64))
    # A corner of 8 by 8 px loses its two outer rows: its far corner pixel is off by a diagonal.
    assert result.boundary.hausdorff.px == pytest.approx(2**0.5)
    assert evaluate((cells, cells)).boundary.hausdorff.px == 0


# Cells on top of others


def test_overlapping_truth_found_perfectly(coco_figures):
    y, x = np.indices((20, 40))
    discs = [(x - middle) ** 2 + (y - 10) ** 2 <= 64 for middle in (9, 14, 19, 30)]
    cells = stacked(*discs)
    result = evaluate((cells, cells))
    assert top(result) == [1] * len(TOP)
    assert result.errors.truth["correct"] == result.errors.pred["correct"] == 4
    assert coco(result) == pytest.approx(coco_figures([cells], [cells])[0])
    # Raw masks fit whatever their scores; in label images another order cuts other parts away.
    other = replace(cells, scores=cells.scores[::-1].copy())
    result = evaluate((cells, other))
    assert (result.map, result.centroids.f_d, result.boundary.f1) == (1, 1, 1)
    assert result.aji < 1


def test_a_cell_that_lies_wholly_under_others_is_in_no_label_image():
    big, small = np.ones((6, 6), np.bool_), np.zeros((6, 6), np.bool_)
    small[2:4, 2:4] = True
    truth = stacked(big, small)
    result = evaluate((truth, truth))
    assert (result.n_truth, result.map, result.errors.truth["correct"]) == (2, 1, 2)
    assert (result.f1_50, result.dice) == (1, 1)  # one cell against one


def test_duplicates_count_against_average_precision_and_as_errors(coco_figures):
    labels = row(1, 1, 1, 1, 0, 2, 2, 2, 2)
    truth = Instances.from_labels(labels)
    first, second = labels == 1, labels == 2
    pred = stacked(first, first, second, scores=[0.9, 0.8, 0.7])
    result = evaluate((truth, pred))
    # A hit, a duplicate, a hit: precision 1 up to recall 1 / 2 (51 of 101 levels), then 2 / 3.
    assert result.map == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert coco(result) == pytest.approx(coco_figures([truth], [pred])[0])
    assert (result.errors.pred["correct"], result.errors.pred["duplicate"], result.n_pred) == (2, 1, 3)
    # The label image of both has no pixel of the second one left.
    assert (result.f1_50, result.pq) == (1, 1)
    # Two copies of all cells, a pixel apart, leave slivers in the label image.
    y, x = np.indices((30, 60))
    discs = [(x - middle) ** 2 + (y - 14) ** 2 <= 81 for middle in (12, 40)]
    twice = stacked(*discs, *(np.roll(disc, 2, axis=1) for disc in discs))
    result = evaluate((stacked(*discs), twice))
    assert result.f1_50 == pytest.approx(2 * 2 / (2 * 2 + 2))
    assert result.errors.pred["duplicate"] == 2


# IoU on a threshold


@pytest.mark.parametrize("shared", range(10, 20))
def test_an_iou_on_the_threshold(coco_figures, shared):
    truth = Instances.from_labels(np.ones((1, 20), np.uint8))
    pred = Instances.from_labels((np.arange(20) < shared)[None].astype(np.uint8))
    threshold = IOU_THRESHOLDS[shared - 10]
    iou = overlap(truth.masks, pred.masks).iou()
    assert iou.toarray().tolist() == [[threshold]]
    assert match(iou, threshold).counts == Counts(fp=1, fn=1)  # strictly above it
    assert match(iou, np.nextafter(threshold, 0)).counts == Counts(tp=1)
    found = average_precision([truth], [pred], 1)  # COCO's takes it
    assert coco(found) == pytest.approx(coco_figures([truth], [pred])[0])
    assert found.ap50 == 1
    assert found.ap75 == (shared >= 15)


# Regions to ignore


def test_regions_to_ignore_by_hand():
    truth = Instances.from_labels(row(1, 1, 1, 0, 0, 0, 0, 0, 0, 0))
    region = Instances.from_labels(row(0, 0, 0, 0, 0, 0, 1, 1, 1, 1))
    pred = Instances.from_labels(row(1, 1, 1, 2, 2, 3, 3, 3, 4, 4))  # 3 lies in the region by 2 of 3 px, 4 wholly
    without, result = evaluate((truth, pred)), evaluate((truth, pred, region))
    assert without.f1_50 == pytest.approx(2 / (2 + 3))
    assert result.f1_50 == pytest.approx(2 / (2 + 1))
    assert result.errors.pred["spurious"] == 1
    assert top(evaluate((truth, pred.select(np.array([0, 2, 3])), region)))[4:] == [1] * 5
    # A cell of the truth inside a region still counts, found or not.
    whole = Instances.from_labels(np.ones((1, 10), np.uint8))
    assert evaluate((truth, truth, whole)).f1_50 == 1
    assert evaluate((truth, Instances.empty((1, 10)), whole)).f1_50 == 0


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_with_regions_to_ignore_equals_pycocotools(coco_figures, seed):
    rng = np.random.default_rng(seed)

    def squares(corners, side):
        y, x = np.indices((64, 64))
        return [(abs(x - left - side / 2) < side / 2) & (abs(y - top - side / 2) < side / 2) for left, top in corners]

    corners = rng.integers(0, 60, (30, 2))
    cells, regions = squares(corners, 8), squares(rng.integers(0, 44, (3, 2)), 20)
    found = squares(corners + rng.integers(-1, 2, (30, 2)), 8) + squares(rng.integers(0, 60, (40, 2)), 7)
    pred = stacked(*found, scores=rng.permutation(70) / 70)
    truth, ignore = stacked(*cells), stacked(*regions)
    result = evaluate((truth, pred, ignore))
    assert coco(result) == pytest.approx(coco_figures([truth], [pred], ignore=[ignore])[0], abs=1e-6)
    assert result.ap50 > evaluate((truth, pred)).ap50
