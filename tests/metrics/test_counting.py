import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everycell.metrics import count_error, count_errors


def ids(*values):
    return np.array(values, np.int64)


def test_by_hand():
    found = count_error(ids(10, 4, 0), ids(8, 5, 3))
    assert (found.n_truth, found.n_pred) == (14, 16)
    assert found.bias == pytest.approx((-2 + 1 + 3) / 3)
    assert found.absolute == pytest.approx((2 + 1 + 3) / 3)
    assert found.relative == pytest.approx((2 / 10 + 1 / 4) / 2)  # the last image has no true cell
    assert found.relative_pooled == pytest.approx(2 / 14)


def test_a_cell_of_the_wrong_class_is_an_error_of_both_classes_only():
    blind, first, second = count_errors([ids(1, 1, 2)], [ids(1, 2, 2)], 2)
    assert (blind.absolute, first.bias, second.bias) == (0, -1, 1)
    assert (first.relative, second.relative) == (1 / 2, 1)


def test_nothing():
    assert all(math.isnan(value) for value in astuple(count_error(ids(), ids()))[2:])
    found = count_errors([ids()], [ids(2)], 2)
    assert (found[0].absolute, found[1].absolute, found[2].bias) == (1, 0, 1)
    assert math.isnan(found[0].relative)
    assert math.isnan(found[0].relative_pooled)
    assert math.isnan(count_errors([], [], 1)[1].absolute)


class_lists = st.lists(st.lists(st.integers(1, 3), max_size=6).map(lambda v: ids(*v)), min_size=1, max_size=4)


@given(class_lists, st.randoms())
def test_order_does_not_matter_and_perfect_counts_have_no_error(truths, random):
    shuffled = [ids(*random.sample(v.tolist(), len(v))) for v in truths]
    for found in count_errors(truths, shuffled, 3):
        assert (found.bias, found.absolute) == (0, 0)
        assert found.relative == found.relative_pooled == 0 or found.n_truth == 0
