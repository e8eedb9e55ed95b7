import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from everycell.metrics import overlap, overlap_of_labels, overlaps
from everycell.structures import Instances, MaskCrops

label_images = hnp.arrays(np.int64, (6, 7), elements=st.integers(0, 5))


def test_pixels_areas_and_iou_by_hand(true_grid, pred_grid):
    shared = overlap_of_labels(true_grid, pred_grid)
    assert shared.pixels.dtype == np.int64
    assert shared.pixels.toarray().tolist() == [[4, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 2]]
    assert shared.truth_areas.tolist() == [4, 4, 4]
    assert shared.pred_areas.tolist() == [6, 2, 2, 3]
    np.testing.assert_allclose(shared.iou().toarray(), [[4 / 6, 0, 0, 0], [0, 2 / 4, 0, 0], [0, 0, 2 / 4, 2 / 5]])


@given(label_images, label_images)
def test_crops_and_labels_agree(truth, pred):
    from_labels = overlap_of_labels(truth, pred)
    from_crops = overlap(MaskCrops.from_labels(truth)[0], MaskCrops.from_labels(pred)[0])
    assert from_crops.pixels.toarray().tolist() == from_labels.pixels.toarray().tolist()
    assert from_crops.truth_areas.tolist() == from_labels.truth_areas.tolist()
    assert from_crops.pred_areas.tolist() == from_labels.pred_areas.tolist()


@given(label_images, label_images, st.integers(0, 2**20), st.integers(0, 2**20))
def test_shifting_both_sets_changes_nothing(truth, pred, dx, dy):
    truth_masks, pred_masks = MaskCrops.from_labels(truth)[0], MaskCrops.from_labels(pred)[0]
    moved = overlap(truth_masks.shifted(dx, dy), pred_masks.shifted(dx, dy))
    assert moved.pixels.toarray().tolist() == overlap(truth_masks, pred_masks).pixels.toarray().tolist()


def test_cells_of_one_set_may_overlap():
    square = np.ones((3, 3), np.bool_)
    twice = MaskCrops.from_crops(np.array([[0, 0], [1, 0]]), [square, square])  # they share two by three pixels
    assert overlap(twice, twice).pixels.toarray().tolist() == [[9, 6], [6, 9]]


@st.composite
def cell_sets(draw):
    """Two sets of ragged cells on 12 x 12 px that overlap each other, some of them empty, with few distinct scores."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sets = []
    for _ in range(2):
        crops = [rng.random(rng.integers(0, 7, 2)) < 0.7 for _ in range(draw(st.integers(0, 6)))]
        masks = MaskCrops.from_crops(rng.integers(0, 6, (len(crops), 2)), crops)
        scores = rng.choice([0.3, 0.6, 0.9], len(crops)).astype(np.float32)
        sets.append(Instances.from_masks(masks, (12, 12), scores=scores))
    return sets


@given(cell_sets())
def test_raw_and_flat_overlaps_equal_dense_masks_and_painted_labels(sets):
    truth, pred = sets
    found = overlaps(truth, pred)
    dense = [np.zeros((len(cells), 144), np.int64) for cells in sets]
    for masks, cells in zip(dense, sets, strict=True):
        for mask, (rows, columns, bits) in zip(masks.reshape(-1, 12, 12), cells.masks, strict=True):
            mask[rows, columns] = bits
    np.testing.assert_array_equal(found.raw.pixels.toarray(), dense[0] @ dense[1].T)
    np.testing.assert_array_equal(found.raw.truth_areas, dense[0].sum(axis=1))
    np.testing.assert_array_equal(found.raw.pred_areas, dense[1].sum(axis=1))
    labels = [cells.to_labels() for cells in sets]
    flat = overlap_of_labels(*labels)
    np.testing.assert_array_equal(found.flat.pixels.toarray(), flat.pixels.toarray())
    np.testing.assert_array_equal(found.flat.truth_areas, flat.truth_areas)
    np.testing.assert_array_equal(found.flat.pred_areas, flat.pred_areas)
    np.testing.assert_array_equal(found.flat_truth + 1, np.unique(labels[0][labels[0] > 0]))
    np.testing.assert_array_equal(found.flat_pred + 1, np.unique(labels[1][labels[1] > 0]))
    assert found.raw.pixels.dtype == found.flat.pixels.dtype == np.int64


def test_sets_without_cells():
    one = MaskCrops.from_crops(np.array([[0, 0]]), [np.ones((2, 2), np.bool_)])
    assert overlap(MaskCrops.empty(), one).iou().shape == (0, 1)
    assert overlap(one, MaskCrops.empty()).iou().shape == (1, 0)
    assert overlap(MaskCrops.empty(), MaskCrops.empty()).iou().shape == (0, 0)
    assert overlap_of_labels(np.zeros((4, 4), np.int32), np.ones((4, 4), np.int32)).pixels.shape == (0, 1)


def test_relabelling_only_reorders(true_grid, pred_grid):
    shuffled = np.array([0, 70, 2**40, 5])[true_grid]  # ascending: 3, 1, 2
    before, after = overlap_of_labels(true_grid, pred_grid), overlap_of_labels(shuffled, pred_grid)
    assert after.pixels.toarray().tolist() == before.pixels.toarray()[[2, 0, 1]].tolist()


def test_a_thousand_cells_against_a_thousand_are_quick():
    rng = np.random.default_rng(0)
    crops = [np.ones((18, 18), np.bool_)] * 1000
    truth, pred = (MaskCrops.from_crops(rng.integers(0, 980, (1000, 2)), crops) for _ in range(2))
    start = time.process_time()
    overlap(truth, pred)
    assert time.process_time() - start < 1.0  # 0.02 s; the margin is for loaded machines
