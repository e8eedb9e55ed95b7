import numpy as np
import pytest

from everycell.predict.covered import drop_covered
from everycell.structures import MaskCrops


def squares(*boxes):
    origins = np.array([[x, y] for x, y, _ in boxes])
    return MaskCrops.from_crops(origins, [np.ones((side, side), bool) for _, _, side in boxes])


def test_a_cell_inside_a_better_one_goes():
    masks = squares((0, 0, 10), (2, 2, 4), (20, 0, 5))
    kept = drop_covered(masks, np.array([0.9, 0.8, 0.7], np.float32), (30, 30), 0.5)
    assert kept.tolist() == [0, 2]


def test_the_better_one_stays_even_if_it_is_the_inner_one():
    # The outer square has 16 of its 100 pixels under the inner one.
    masks = squares((0, 0, 10), (2, 2, 4))
    assert drop_covered(masks, np.array([0.5, 0.8], np.float32), (30, 30), 0.5).tolist() == [1, 0]
    assert drop_covered(masks, np.array([0.5, 0.8], np.float32), (30, 30), 0.15).tolist() == [1]


@pytest.mark.parametrize(("share", "kept"), [(0.49, [0]), (0.5, [0, 1])])
def test_the_limit_itself_is_allowed(share, kept):
    masks = squares((0, 0, 4), (2, 0, 4))  # half of the second lies under the first
    assert drop_covered(masks, np.array([0.9, 0.8], np.float32), (8, 8), share).tolist() == kept


def test_a_dropped_cell_covers_nothing():
    masks = squares((0, 0, 4), (1, 0, 4), (3, 0, 4))
    kept = drop_covered(masks, np.array([0.9, 0.8, 0.7], np.float32), (8, 8), 0.5)
    assert kept.tolist() == [0, 2]


def test_no_cells():
    assert drop_covered(MaskCrops.empty(), np.zeros(0, np.float32), (5, 5), 0.5).tolist() == []
