import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist, directed_hausdorff
from skimage.metrics import hausdorff_distance
from skimage.segmentation import find_boundaries

from everycell.errors import DataError
from everycell.metrics import Counts, Matches, boundary_agreement, match, overlap
from everycell.metrics.boundary import boundary_pixels
from everycell.structures import Instances, MaskCrops


def compare(truth, pred, **tolerance):
    return boundary_agreement(truth, pred, match(overlap(truth.masks, pred.masks).iou(), 0.0), **tolerance)


def block(x0, y0, x1, y1, mpp=None):
    labels = np.zeros((40, 40), np.int64)
    labels[y0:y1, x0:x1] = 1
    return Instances.from_labels(labels, mpp=mpp)


def test_boundary_pixels_by_hand():
    mask = np.array([[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]], np.bool_)
    cells, x, y = boundary_pixels(MaskCrops.from_crops(np.array([[10, 20]]), [mask]))
    assert cells.tolist() == [0] * 8
    inner = {(11, 21), (12, 21), (13, 21)}  # all four neighbours of each are set
    every = {(10 + c, 20 + r) for r, c in zip(*np.nonzero(mask), strict=True)}
    assert set(zip(x.tolist(), y.tolist(), strict=True)) == every - inner


def test_a_square_moved_by_three_pixels():
    truth, pred = block(10, 10, 20, 20, mpp=0.5), block(13, 10, 23, 20)
    found = compare(truth, pred, tolerance_px=2)
    assert found.hausdorff_px.tolist() == [3]
    assert found.hausdorff_um.tolist() == [1.5]
    # Of 36 true boundary pixels the 10 of column 10 lie 3 px from column 13, and those of column 19 in rows 13 … 16 lie
    # 3 px from column 22 and as far or farther from the top and bottom rows. The prediction mirrors this.
    assert found.recall.tolist() == found.precision.tolist() == [(36 - 10 - 4) / 36]
    assert found.f1.tolist() == pytest.approx(found.recall.tolist())
    assert compare(truth, pred, tolerance_px=3).mean_f1 == 1
    assert compare(truth, pred, tolerance_um=1.5).mean_f1 == 1
    assert compare(truth, pred, tolerance_um=1.4).mean_f1 < 1


def test_precision_and_recall_differ():
    # A line of 10 px is found as a line of 4 px: all of it lies on the truth, and 2 of the other 6 px lie within 2 px.
    found = compare(block(10, 10, 20, 11), block(10, 10, 14, 11))
    assert (found.precision.tolist(), found.recall.tolist()) == ([1], [6 / 10])
    assert found.mean_f1 == pytest.approx(2 * 0.6 / 1.6)
    assert found.hausdorff_px.tolist() == [6]
    # Distances 0, 0, 0, 0, 1 … 6: the 95th percentile lies 0.95 × 9 = 8.55 places along.
    assert found.hausdorff95_px.tolist() == pytest.approx([5 + 0.55])


def test_one_pixel_cells_and_neighbours_do_not_disturb_each_other():
    labels = np.zeros((5, 9), np.int64)
    labels[2, 1], labels[2, 2], labels[2, 3:7] = 1, 2, 3
    cells = Instances.from_labels(labels)
    short = Instances.from_labels(np.where(np.arange(9) < 6, labels, 0))
    found = compare(cells, short)
    # Cell 3 loses its last pixel; the others are the same.
    assert found.hausdorff_px.tolist() == [0, 0, 1]


def test_no_pair_is_nan_and_no_mpp_is_named():
    one, other = block(0, 0, 4, 4), block(20, 20, 24, 24)
    found = compare(one, other)
    assert math.isnan(found.mean_f1)
    assert found.hausdorff_px.shape == (0,)
    assert math.isnan(compare(one, one).hausdorff_um[0])
    with pytest.raises(DataError, match=r"2\.0 µm needs µm per pixel"):
        compare(one, one, tolerance_um=2.0)
    far = boundary_agreement(one, other, pairwise_matches(1))
    assert far.mean_f1 == 0


def edge(mask):
    """(row, column) of the boundary pixels of one mask that does not touch its window's edge, by scikit-image."""
    return np.argwhere(find_boundaries(mask, connectivity=1, mode="inner"))


def assert_agrees_with_all_distances(found, i, t, p, tolerance_px):
    """Pair `i` against the definition, on the distances between all of their boundary pixels."""
    distances = cdist(t, p)
    to_pred, to_truth = distances.min(axis=1), distances.min(axis=0)
    assert found.hausdorff_px[i] == max(to_pred.max(), to_truth.max())
    assert found.hausdorff95_px[i] == pytest.approx(max(np.percentile(to, 95) for to in (to_pred, to_truth)))
    assert found.recall[i] == (to_pred <= tolerance_px).mean()
    assert found.precision[i] == (to_truth <= tolerance_px).mean()


def pairwise_matches(n):
    return Matches(np.arange(n), np.arange(n), np.ones(n), Counts(n, 0, 0))


ragged = hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 11))).filter(np.any)


@given(st.lists(st.tuples(ragged, ragged), min_size=1, max_size=5), st.sampled_from([0.0, 1.0, 2.0, 5**0.5]))
def test_agrees_with_scipy_and_skimage(pairs, tolerance_px):
    padded = [[np.pad(mask, 1) for mask in side] for side in zip(*pairs, strict=True)]
    origins = np.zeros((len(pairs), 2), np.int64)
    truth, pred = (Instances.from_masks(MaskCrops.from_crops(origins, side), (13, 13)) for side in padded)
    found = boundary_agreement(truth, pred, pairwise_matches(len(pairs)), tolerance_px=tolerance_px)
    for i, (t, p) in enumerate(zip(*([edge(mask) for mask in side] for side in padded), strict=True)):
        assert_agrees_with_all_distances(found, i, t, p, tolerance_px)
        both_ways = max(directed_hausdorff(t, p)[0], directed_hausdorff(p, t)[0])
        assert found.hausdorff_px[i] == pytest.approx(both_ways)
    alone = [np.zeros((13, 13), np.bool_) for _ in range(2)]
    for image, mask in zip(alone, (side[0] for side in padded), strict=True):
        image[: mask.shape[0], : mask.shape[1]] = find_boundaries(mask, connectivity=1, mode="inner")
    assert found.hausdorff_px[0] == pytest.approx(hausdorff_distance(*alone))


def test_cells_of_all_sizes_in_one_image():
    rng = np.random.default_rng(0)
    sides = [], []
    for radius in [*rng.integers(1, 30, 200), 200, 90, 200]:  # enough for several batches; the last ones fill one each
        y, x = np.ogrid[-radius - 4 : radius + 5, -radius - 4 : radius + 5]
        for side in sides:
            side.append((y + rng.integers(-3, 4)) ** 2 + (x + rng.integers(-3, 4)) ** 2 <= radius**2)
    origins = rng.integers(0, 600, (203, 2))
    truth, pred = (Instances.from_masks(MaskCrops.from_crops(origins, side), (1100, 1100)) for side in sides)
    found = boundary_agreement(truth, pred, pairwise_matches(203), tolerance_px=2)
    for i, masks in enumerate(zip(*sides, strict=True)):
        assert_agrees_with_all_distances(found, i, *map(edge, masks), 2)


def test_pixels_very_far_apart():
    line = np.zeros((1, 70_000), np.bool_)
    line[0, [0, -1]] = True
    wide = MaskCrops.from_crops(np.array([[0, 0]]), [line])
    dot = MaskCrops.from_crops(np.array([[0, 0]]), [np.ones((1, 1), np.bool_)])
    found = boundary_agreement(*(Instances.from_masks(m, (1, 70_000)) for m in (wide, dot)), pairwise_matches(1))
    assert (found.hausdorff_px.tolist(), found.recall.tolist(), found.precision.tolist()) == ([69_999], [0.5], [1])


label_images = hnp.arrays(np.int64, (8, 9), elements=st.integers(0, 4))


@given(label_images)
def test_perfect_is_one(labels):
    cells = Instances.from_labels(labels)
    found = compare(cells, cells, tolerance_px=0)
    assert len(found.f1) == len(cells)
    assert (found.f1 == 1).all()
    assert (found.hausdorff_px == 0).all()


@given(label_images, label_images)
def test_swapping_sides_and_a_common_shift(truth, pred):
    a, b = Instances.from_labels(truth), Instances.from_labels(pred)
    found, swapped = compare(a, b), boundary_agreement(b, a, _swapped(a, b))
    order = np.argsort(match(overlap(a.masks, b.masks).iou(), 0.0).pred)
    np.testing.assert_allclose(swapped.hausdorff_px, found.hausdorff_px[order])
    np.testing.assert_allclose(swapped.precision, found.recall[order])
    moved = [replace(cells, masks=cells.masks.shifted(500, 30)) for cells in (a, b)]
    np.testing.assert_array_equal(compare(*moved).hausdorff95_px, found.hausdorff95_px)


def _swapped(a, b):
    matches = match(overlap(a.masks, b.masks).iou(), 0.0)
    order = np.argsort(matches.pred)
    return Matches(matches.pred[order], matches.truth[order], matches.iou[order], matches.counts)
