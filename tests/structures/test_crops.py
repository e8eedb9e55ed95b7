import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from everycell.structures import Instances, MaskCrops

LABELS = np.array(
    [
        [0, 7, 7, 0, 0],
        [0, 0, 7, 0, 2],
        [0, 0, 0, 0, 2],
        [7, 0, 0, 2, 2],
    ]
)
label_images = hnp.arrays(
    np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([0, 0, 0, 1, 2, 5, 900])
)


def to_labels(masks: MaskCrops, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    labels = np.zeros(size, np.int64)
    for (rows, columns, bits), value in zip(masks, values, strict=True):
        labels[rows, columns][bits] = value
    return labels


def test_from_labels_by_hand():
    masks, values = MaskCrops.from_labels(LABELS)
    assert values.tolist() == [2, 7]
    assert masks.boxes.tolist() == [[3, 1, 5, 4], [0, 0, 3, 4]]
    assert masks.crop(0).astype(int).tolist() == [[0, 1], [0, 1], [1, 1]]
    assert masks.crop(1).astype(int).tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert masks.starts.tolist() == [0, 6, 18]
    assert masks.areas().tolist() == [4, 4]


def test_iterating_gives_windows_into_the_image():
    masks, _ = MaskCrops.from_labels(LABELS)
    pixels = [LABELS[rows, columns][bits].tolist() for rows, columns, bits in masks]
    assert pixels == [[2] * 4, [7] * 4]


@given(label_images)
def test_from_labels_round_trip(labels):
    masks, values = MaskCrops.from_labels(labels)
    assert values.tolist() == sorted(set(labels[labels > 0].tolist()))
    np.testing.assert_array_equal(to_labels(masks, values, labels.shape), labels)
    assert masks.areas().tolist() == [int((labels == value).sum()) for value in values]


def test_labels_without_background():
    masks, values = MaskCrops.from_labels(np.array([[3, 3], [4, 4]]))
    assert values.tolist() == [3, 4]
    assert masks.boxes.tolist() == [[0, 0, 2, 1], [0, 1, 2, 2]]


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.uint64])
def test_values_of_any_size(dtype):
    labels = np.array([[0, 2**31, 2**31], [9, 0, 2**32 - 1]], dtype)
    masks, values = MaskCrops.from_labels(labels)
    assert values.tolist() == [9, 2**31, 2**32 - 1]
    np.testing.assert_array_equal(to_labels(masks, values, (2, 3)), labels)


def test_no_cell():
    masks, values = MaskCrops.from_labels(np.zeros((3, 4), np.uint16))
    assert (len(masks), len(values), masks.areas().tolist(), list(masks)) == (0, 0, [], [])
    assert len(masks.select(np.zeros(0, np.int64))) == len(masks.shifted(3, 4)) == 0


def test_shifted_moves_windows_and_keeps_bits():
    masks, _ = MaskCrops.from_labels(LABELS)
    moved = masks.shifted(10, -1)
    assert moved.boxes.tolist() == [[13, 0, 15, 3], [10, -1, 13, 3]]
    assert moved.bits is masks.bits


@given(label_images, st.data())
def test_select_equals_picking_one_by_one(labels, data):
    masks, _ = MaskCrops.from_labels(labels)
    count = len(masks)
    indices = data.draw(st.lists(st.integers(0, count - 1), max_size=6)) if count else []
    chosen = masks.select(np.array(indices, np.int64))
    assert chosen.boxes.tolist() == masks.boxes[indices].tolist()
    for place, i in enumerate(indices):
        np.testing.assert_array_equal(chosen.crop(place), masks.crop(i))
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), np.bool_)
    assert masks.select(keep).boxes.tolist() == masks.select(np.flatnonzero(keep)).boxes.tolist()


def test_memory_grows_with_cells_not_with_the_image():
    masks = MaskCrops.from_crops(np.array([[0, 0], [99_990, 99_990]]), [np.ones((4, 4), bool), np.ones((2, 3), bool)])
    assert masks.bits.size == 22
    assert masks.areas().tolist() == [16, 6]
    assert Instances.from_masks(masks, (100_000, 100_000)).boxes[1].tolist() == [99_990, 99_990, 99_993, 99_992]


def test_bits_must_fit_the_windows():
    with pytest.raises(AssertionError):
        MaskCrops(np.array([[0, 0, 2, 2]], np.int32), np.ones(3, bool))
