import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everycell.predict.covered import drop_covered
from everycell.predict.found import Found
from everycell.structures import Instances, MaskCrops


def squares(*boxes):
    origins = np.array([[x, y] for x, y, _ in boxes]).reshape(-1, 2)
    return MaskCrops.from_crops(origins, [np.ones((side, side), bool) for _, _, side in boxes])


def found(masks, scores) -> Found:
    n = len(masks)
    cells = Instances.from_masks(masks, (60, 60), scores=np.array(scores, np.float32))
    return Found(cells, np.zeros((n, 4), np.int64), np.zeros(n, bool), np.arange(n))


def kept(masks, scores, max_covered) -> list[int]:
    [(stays, _)] = drop_covered([(found(masks, scores), math.inf)], max_covered)
    return stays.numbers.tolist()


def test_a_cell_inside_a_better_one_goes():
    assert kept(squares((0, 0, 10), (2, 2, 4), (20, 0, 5)), [0.9, 0.8, 0.7], 0.5) == [0, 2]


def test_the_better_one_stays_even_if_it_is_the_inner_one():
    # The outer square has 16 of its 100 pixels under the inner one.
    masks = squares((0, 0, 10), (2, 2, 4))
    assert kept(masks, [0.5, 0.8], 0.5) == [0, 1]
    assert kept(masks, [0.5, 0.8], 0.15) == [1]


@pytest.mark.parametrize(("share", "expected"), [(0.49, [0]), (0.5, [0, 1])])
def test_the_limit_itself_is_allowed(share, expected):
    masks = squares((0, 0, 4), (2, 0, 4))  # half of the second lies under the first
    assert kept(masks, [0.9, 0.8], share) == expected


def test_a_dropped_cell_covers_nothing():
    assert kept(squares((0, 0, 4), (1, 0, 4), (3, 0, 4)), [0.9, 0.8, 0.7], 0.5) == [0, 2]


def test_two_cells_cover_together():
    # 6 of the 16 pixels lie under each of the others; neither alone would do.
    assert kept(squares((0, 0, 4), (3, 0, 4), (1, 1, 4)), [0.9, 0.8, 0.7], 0.6) == [0, 1]


def test_no_cells():
    assert kept(MaskCrops.empty(), [], 0.5) == []


def greedy(masks: MaskCrops, scores: np.ndarray, max_covered: float) -> list[int]:
    """On one canvas, the best first."""
    taken, stay = np.zeros((60, 60), bool), []
    windows = list(masks)
    for i in np.argsort(-scores, kind="stable").tolist():
        rows, columns, bits = windows[i]
        if (taken[rows, columns] & bits).sum() <= max_covered * bits.sum():
            taken[rows, columns] |= bits
            stay.append(i)
    return sorted(stay)


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.2, 0.5]), st.integers(1, 30))
def test_row_by_row_equals_all_at_once(seed, max_covered, step):
    """Whatever comes in when, and whatever lies over what: as on one canvas."""
    rng = np.random.default_rng(seed)
    masks = squares(*((*rng.integers(0, 40, 2), rng.integers(1, 20)) for _ in range(rng.integers(1, 40))))
    scores = (rng.integers(1, 9, len(masks)) / 8).astype(np.float32)
    everything, tops = found(masks, scores), masks.boxes[:, 1]
    rows = [
        (everything.select((tops >= y) & (tops < y + step)), y + step if y + step < 60 else math.inf)
        for y in range(0, 60, step)
    ]
    stays, last = [], 0.0
    for cells, horizon in drop_covered(rows, max_covered):
        assert (cells.cells.masks.boxes[:, 1] >= last).all()
        stays += cells.numbers.tolist()
        last = horizon
    assert sorted(stays) == greedy(masks, scores, max_covered)
