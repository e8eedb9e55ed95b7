import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everycell.predict.stitch import centroids, drop_seam_duplicates
from everycell.structures import MaskCrops


def squares(*cells: tuple[int, int, int, int]) -> MaskCrops:
    """Full rectangles (x, y, width, height)."""
    return MaskCrops.from_crops(
        np.array([cell[:2] for cell in cells]).reshape(-1, 2), [np.ones((h, w), bool) for _, _, w, h in cells]
    )


def kept(masks: MaskCrops, scores: list[float], tiles: list[int]) -> list[int]:
    return drop_seam_duplicates(masks, np.array(scores, np.float32), np.array(tiles, np.int64)).tolist()


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        (0, [1]),
        (3, [1]),  # 7 of 13 px: IoU 0.54
        (4, [0, 1]),  # 6 of 14 px: IoU 0.43
        (10, [0, 1]),
        (40, [0, 1]),
    ],
)
def test_the_higher_score_of_two_tiles_stays(shift, expected):
    masks = squares((0, 0, 10, 4), (shift, 0, 10, 4))
    assert kept(masks, [0.6, 0.9], [0, 1]) == expected


def test_exactly_half_is_not_the_same_cell():
    assert kept(squares((0, 0, 2, 1), (0, 0, 1, 1)), [0.6, 0.9], [0, 1]) == [0, 1]


def test_cells_of_one_tile_are_left_alone():
    assert kept(squares((0, 0, 5, 5), (0, 0, 5, 5)), [0.6, 0.9], [3, 3]) == [0, 1]


def test_a_removed_cell_removes_no_other():
    # Both neighbours overlap by more than half with the next; the middle one falls to the first and spares the last.
    masks = squares((0, 0, 10, 1), (3, 0, 10, 1), (6, 0, 10, 1))
    assert kept(masks, [0.9, 0.8, 0.7], [0, 1, 2]) == [0, 2]


def test_three_tiles_meeting_in_one_cell_keep_one():
    assert kept(squares(*[(4, 4, 6, 6)] * 4), [0.5, 0.7, 0.9, 0.9], [0, 1, 2, 3]) == [2]


def test_overlap_counts_mask_pixels_not_boxes():
    low, high = np.tril(np.ones((9, 9), bool), -1), np.triu(np.ones((9, 9), bool), 1)
    masks = MaskCrops.from_crops(np.zeros((2, 2), int), [low, high])
    assert kept(masks, [0.5, 0.9], [0, 1]) == [0, 1]


def test_nothing_to_join():
    assert kept(MaskCrops.empty(), [], []) == []


@given(st.integers(0, 2**31))
def test_what_is_kept_has_no_duplicates_and_what_is_dropped_has_a_better_one(seed):
    rng = np.random.default_rng(seed)
    masks = squares(*((*rng.integers(0, 12, 2), *rng.integers(1, 9, 2)) for _ in range(8)))
    scores, tiles = rng.integers(1, 5, 8) / 4, rng.integers(0, 3, 8)
    full = np.zeros((8, 24, 24), bool)
    for image, (rows, columns, bits) in zip(full, masks, strict=True):
        image[rows, columns] = bits
    iou = (full[:, None] & full).sum((2, 3)) / (full[:, None] | full).sum((2, 3))
    same = (iou > 0.5) & (tiles[:, None] != tiles)
    keep = kept(masks, scores.tolist(), tiles.tolist())
    assert not same[np.ix_(keep, keep)].any()
    for i in set(range(8)) - set(keep):
        assert any(same[i, j] and scores[j] >= scores[i] for j in keep)


def test_centroids():
    bits = np.array([[1, 1, 0], [1, 0, 0]], bool)
    crops = [np.ones((2, 4), bool), bits, np.zeros((2, 2), bool)]
    masks = MaskCrops.from_crops(np.array([[0, 0], [10, 20], [4, 6]]), crops)
    np.testing.assert_allclose(centroids(masks), [[2, 1], [10 + 5 / 6, 20 + 5 / 6], [5, 7]])
