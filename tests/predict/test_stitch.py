import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everycell.predict.found import Found
from everycell.predict.stitch import centroids, join_seams, worth_keeping
from everycell.predict.tiling import Tiling
from everycell.structures import Instances, MaskCrops


def rectangles(*cells: tuple[int, int, int, int]) -> MaskCrops:
    """Full rectangles (x, y, width, height)."""
    return MaskCrops.from_crops(
        np.array([cell[:2] for cell in cells]).reshape(-1, 2), [np.ones((h, w), bool) for _, _, w, h in cells]
    )


def found(masks: MaskCrops, scores, windows, cut=None) -> Found:
    n = len(masks)
    cells = Instances.from_masks(masks, (100, 100), scores=np.array(scores, np.float32))
    cut = np.zeros(n, bool) if cut is None else np.array(cut, bool)
    return Found(cells, np.array(windows, np.int64).reshape(-1, 4), cut, np.arange(n))


def join(cells: Found) -> Found:
    [(joined, _)] = join_seams([(cells, math.inf)])
    return joined.select(np.argsort(joined.numbers))


def kept(masks: MaskCrops, scores: list[float], tiles: list[int]) -> list[int]:
    """Whole cells of tiles that all see the whole image."""
    windows = [(0, 0, 100 + tile, 100) for tile in tiles]
    return join(found(masks, scores, windows)).numbers.tolist()


class TestWholeCells:
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
    def test_the_higher_score_of_two_tiles_stays(self, shift, expected):
        assert kept(rectangles((0, 0, 10, 4), (shift, 0, 10, 4)), [0.6, 0.9], [0, 1]) == expected

    def test_exactly_half_is_not_the_same_cell(self):
        assert kept(rectangles((0, 0, 2, 1), (0, 0, 1, 1)), [0.6, 0.9], [0, 1]) == [0, 1]

    def test_cells_of_one_tile_are_left_alone(self):
        assert kept(rectangles((0, 0, 5, 5), (0, 0, 5, 5)), [0.6, 0.9], [3, 3]) == [0, 1]

    def test_a_removed_cell_removes_no_other(self):
        # Both neighbours overlap by more than half with the next; the middle one falls to the first, sparing the last.
        masks = rectangles((0, 0, 10, 1), (3, 0, 10, 1), (6, 0, 10, 1))
        assert kept(masks, [0.9, 0.8, 0.7], [0, 1, 2]) == [0, 2]

    def test_three_tiles_meeting_in_one_cell_keep_one(self):
        assert kept(rectangles(*[(4, 4, 6, 6)] * 4), [0.5, 0.7, 0.9, 0.9], [0, 1, 2, 3]) == [2]

    def test_overlap_counts_mask_pixels_not_boxes(self):
        low, high = np.tril(np.ones((9, 9), bool), -1), np.triu(np.ones((9, 9), bool), 1)
        masks = MaskCrops.from_crops(np.zeros((2, 2), int), [low, high])
        assert kept(masks, [0.5, 0.9], [0, 1]) == [0, 1]

    def test_nothing_to_join(self):
        assert kept(MaskCrops.empty(), [], []) == []

    @given(st.integers(0, 2**31))
    def test_what_is_kept_has_no_duplicates_and_what_is_dropped_has_a_better_one(self, seed):
        rng = np.random.default_rng(seed)
        masks = rectangles(*((*rng.integers(0, 12, 2), *rng.integers(1, 9, 2)) for _ in range(8)))
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


class TestPieces:
    LEFT, RIGHT = (0, 0, 60, 100), (40, 0, 100, 100)

    def test_two_pieces_become_one_cell_with_the_better_score(self):
        masks = rectangles((10, 20, 50, 5), (40, 20, 45, 5))
        joined = join(found(masks, [0.7, 0.8], [self.LEFT, self.RIGHT], [True, True]))
        assert joined.cells.masks.boxes.tolist() == [[10, 20, 85, 25]]
        assert joined.cells.boxes.tolist() == [[10, 20, 85, 25]]
        assert joined.cells.masks.areas().tolist() == [75 * 5]
        assert joined.cells.scores.tolist() == [np.float32(0.8)]

    def test_only_what_both_tiles_see_decides(self):
        # 20 px of 75 are shared, an IoU of 0.27; but in the area of both tiles the pieces are the same.
        masks = rectangles((10, 20, 50, 5), (40, 20, 45, 5))
        assert len(join(found(masks, [0.7, 0.8], [self.LEFT, self.RIGHT], [False, False]))) == 2

    def test_neighbours_that_overlap_a_little_stay_two(self):
        masks = rectangles((10, 20, 50, 5), (40, 24, 45, 5))  # one row of five, IoU 1/9
        assert len(join(found(masks, [0.7, 0.8], [self.LEFT, self.RIGHT], [True, True]))) == 2

    def test_a_piece_goes_where_another_tile_saw_the_whole_cell(self):
        masks = rectangles((10, 20, 50, 5), (5, 20, 80, 5))
        joined = join(found(masks, [0.9, 0.6], [self.LEFT, (0, 0, 100, 90)], [True, False]))
        assert joined.numbers.tolist() == [1]

    def test_two_pieces_of_one_tile_are_joined_by_another_tiles_piece(self):
        """A horseshoe whose bend lies to the right of the first tile."""
        bend = np.zeros((21, 45), bool)
        bend[:5], bend[-5:], bend[:, -5:] = True, True, True
        masks = MaskCrops.from_crops(
            np.array([[10, 20], [10, 36], [40, 20]]), [np.ones((5, 50), bool), np.ones((5, 50), bool), bend]
        )
        joined = join(found(masks, [0.7, 0.6, 0.5], [self.LEFT, self.LEFT, self.RIGHT], [True] * 3))
        assert joined.cells.masks.boxes.tolist() == [[10, 20, 85, 41]]
        assert joined.cells.masks.areas().tolist() == [2 * 75 * 5 + 11 * 5]


class TestWorthKeeping:
    TILING = Tiling((100, 100), 60, 10)  # cores of 40 px, or what is left

    def numbers(self, *cells, seam_px=0):
        tile = self.TILING.tiles[4]
        assert (tile.core, tile.window) == ((34, 34, 68, 68), (24, 24, 78, 78))
        instances = Instances.from_masks(rectangles(*cells), (100, 100))
        kept = worth_keeping(instances, tile, self.TILING, seam_px=seam_px)
        return [cells.index((x0, y0, x1 - x0, y1 - y0)) for x0, y0, x1, y1 in kept.cells.masks.boxes.tolist()]

    def test_whole_cells_are_kept_by_their_owner(self):
        assert self.numbers((40, 40, 8, 8), (25, 40, 8, 8)) == [0]

    def test_seam_px_leaves_room_for_another_opinion(self):
        assert self.numbers((25, 40, 14, 8)) == []
        assert self.numbers((26, 40, 14, 8), seam_px=2) == [0]

    def test_a_cell_that_its_owner_may_not_see_whole_is_kept(self):
        # Its centroid lies in the core to the left, but it reaches 10 px, the halo, away from it.
        assert self.numbers((25, 40, 17, 4), (25, 50, 16, 4)) == []
        assert self.numbers((25, 40, 2, 21)) == [0]

    def test_pieces_are_kept_where_they_reach_into_the_core(self):
        assert self.numbers((24, 40, 10, 4), (24, 50, 11, 4)) == [1]


def test_centroids():
    bits = np.array([[1, 1, 0], [1, 0, 0]], bool)
    crops = [np.ones((2, 4), bool), bits, np.zeros((2, 2), bool)]
    masks = MaskCrops.from_crops(np.array([[0, 0], [10, 20], [4, 6]]), crops)
    np.testing.assert_allclose(centroids(masks), [[2, 1], [10 + 5 / 6, 20 + 5 / 6], [5, 7]])
