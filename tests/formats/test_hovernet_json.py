import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from everycell.errors import DataError
from everycell.formats import Classes, open_cell_set
from everycell.formats.hovernet_json import read_hovernet_json

SQUARE = [[1, 1], [4, 1], [4, 3], [1, 3]]


def write(path, *cells):
    path.write_text(json.dumps({"mag": 40, "nuc": {str(i): cell for i, cell in enumerate(cells, start=1)}}))
    return path


def test_border_pixels_belong_to_the_cell(tmp_path):
    cells = open_cell_set(write(tmp_path / "a.json", {"contour": SQUARE, "type": 2, "type_prob": 0.5}))
    assert (cells.told_by, cells.class_names()) == ("id", ("class1", "class2"))
    back = cells.read("a", (6, 8), mpp=0.25)
    expected = np.zeros((6, 8), int)
    expected[1:4, 1:5] = 1
    np.testing.assert_array_equal(back.to_labels(), expected)
    assert (back.class_ids.tolist(), back.scores.tolist(), back.mpp) == ([2], [1], 0.25)


@given(st.integers(0, 2**32 - 1))
def test_discs_come_back(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:30, :30]
    (cy, cx), radius = rng.uniform(12, 18, 2), rng.uniform(2, 11)
    disc = np.hypot(y - cy, x - cx) < radius
    border = np.argwhere(disc & ~ndimage.binary_erosion(disc))
    around = border[np.argsort(np.arctan2(border[:, 0] - cy, border[:, 1] - cx))]
    path = write(tmp_path_factory.getbasetemp() / "disc.json", {"contour": around[:, ::-1].tolist(), "type": None})
    back = read_hovernet_json(path, (30, 30), Classes(("cell",), blind=True))
    np.testing.assert_array_equal(back.to_labels() > 0, disc)


def test_what_lies_outside_is_cut_off(tmp_path):
    path = write(tmp_path / "a.json", *({"contour": (np.array(SQUARE) + d).tolist(), "type": 1} for d in (3, 30)))
    back = read_hovernet_json(path, (6, 6))
    assert back.masks.boxes.tolist() == [[4, 4, 6, 6]]
    assert back.notes == ("1 of 2 outlines cover no pixel of the image and were left out",)


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ({"contour": [[0, 0], [4, 4], [4, 0], [0, 4]], "type": 1}, "cell 1: the contour crosses itself"),
        ({"contour": [[0, 0], [4, 4]], "type": 1}, "cell 1: contour must be 3 points"),
        ({"type": 1}, "cell 1: contour must be 3 points"),
        ({"contour": SQUARE, "type": 0}, "cell 1: type must be 1 … K, got 0"),
        ({"contour": SQUARE}, "cell 1: type must be 1 … K, got None"),
        (3, "as HoVer-Net writes it"),
    ],
)
def test_a_cell_that_is_none_is_named(tmp_path, cell, says):
    with pytest.raises(DataError, match=says):
        read_hovernet_json(write(tmp_path / "a.json", cell), (6, 6))
