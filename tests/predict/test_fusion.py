import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from everycell.predict.fusion import fuse
from everycell.structures import Instances, MaskCrops


def look(*cells: tuple[int, int, int, int, float, int]) -> Instances:
    """Full rectangles (x, y, width, height, score, class)."""
    masks = MaskCrops.from_crops(
        np.array([cell[:2] for cell in cells]).reshape(-1, 2), [np.ones((h, w), bool) for _, _, w, h, _, _ in cells]
    )
    return Instances.from_masks(
        masks,
        (40, 40),
        scores=np.array([cell[4] for cell in cells], np.float32),
        class_ids=np.array([cell[5] for cell in cells], np.int64),
    )


def test_looks_that_agree_keep_the_cell():
    fused = fuse([look((5, 5, 8, 8, 0.9, 1)), look((5, 5, 8, 8, 0.7, 1))], 0.5)
    assert fused.masks.boxes.tolist() == [[5, 5, 13, 13]]
    np.testing.assert_allclose(fused.scores, [0.8])
    assert fused.masks.areas().tolist() == [64]


def test_a_look_that_misses_the_cell_counts_as_zero():
    looks = [look((5, 5, 8, 8, 0.9, 1)), look(), look()]
    np.testing.assert_allclose(fuse(looks, 0.2).scores, [0.3])
    assert len(fuse(looks, 0.31)) == 0


def test_the_majority_of_the_scores_decides_on_each_pixel():
    looks = [look((0, 0, 10, 4, 0.6, 1)), look((0, 0, 10, 5, 0.6, 1)), look((0, 0, 12, 5, 0.8, 1))]
    fused = fuse(looks, 0.1)
    # Row 4 has 1.4 of 2.0, columns 10 and 11 have 0.8.
    assert fused.masks.boxes.tolist() == [[0, 0, 10, 5]]
    np.testing.assert_allclose(fused.boxes, [[0, 0, (6 + 6 + 9.6) / 2, (2.4 + 3 + 4) / 2]], rtol=1e-6)


def test_the_class_of_the_larger_sum_of_scores():
    looks = [look((0, 0, 9, 9, 0.9, 2)), look((0, 0, 9, 9, 0.5, 1)), look((0, 0, 9, 9, 0.5, 1))]
    assert fuse(looks, 0.1).class_ids.tolist() == [1]


def test_one_look_gives_one_cell_to_a_group():
    """Two cells of one look stay two, though another look's cell is like both."""
    looks = [look((0, 0, 10, 6, 0.9, 1), (0, 2, 10, 6, 0.8, 1)), look((0, 1, 10, 6, 0.7, 1))]
    fused = fuse(looks, 0.1)
    np.testing.assert_allclose(fused.scores, [0.8, 0.4])


@given(st.integers(0, 2**31))
def test_equal_looks_give_the_look_and_order_of_looks_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    cells = [(*rng.integers(0, 30, 2), *rng.integers(1, 9, 2), rng.uniform(0.1, 1), 1) for _ in range(6)]
    plain = look(*cells)
    best_first = plain.select(np.argsort(-plain.scores, kind="stable"))
    fused = fuse([plain] * 3, 0.0)
    np.testing.assert_allclose(fused.scores, best_first.scores, rtol=1e-5)
    np.testing.assert_array_equal(fused.masks.boxes, best_first.masks.boxes)
    other = look(*((x + 1, y, w, h, score * 0.9, 1) for x, y, w, h, score, _ in cells))
    there, back = fuse([plain, other], 0.0), fuse([other, plain], 0.0)
    assert sorted(there.scores.tolist()) == sorted(back.scores.tolist())


def test_no_cells():
    assert len(fuse([look(), look()], 0.5)) == 0
