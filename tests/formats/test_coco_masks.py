import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from everycell.errors import DataError
from everycell.formats.coco_masks import decode_segmentation

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' decoder


def pasted(segmentation, size):
    (x, y), bits = decode_segmentation(segmentation, size)
    mask = np.zeros(size, bool)
    mask[y : y + bits.shape[0], x : x + bits.shape[1]] = bits
    return mask


@st.composite
def random_runs(draw):
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    cuts = sorted(draw(st.lists(st.integers(0, height * width), max_size=9)))
    return np.diff([0, *cuts, height * width]).tolist(), (height, width)


@given(random_runs())
def test_rle_with_lists_and_with_strings_is_that_of_pycocotools(runs):
    counts, size = runs
    packed = coco.frPyObjects({"size": list(size), "counts": counts}, *size)
    expected = coco.decode(packed).astype(bool)
    np.testing.assert_array_equal(pasted({"size": list(size), "counts": counts}, size), expected)
    text = packed["counts"].decode()
    np.testing.assert_array_equal(pasted({"size": list(size), "counts": text}, size), expected)


@st.composite
def random_polygons(draw):
    """One to three star-shaped polygons, so none crosses itself; parts may overlap and leave the image."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        angles = np.linspace(0, 2 * np.pi, draw(st.integers(3, 20)), endpoint=False)
        radii = rng.uniform(2, 9, len(angles))
        corners = rng.uniform(0, 24, 2) + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        parts.append(corners.ravel().tolist())
    return parts


@given(random_polygons())
def test_polygons_are_drawn_and_joined_as_pycocotools_does(parts):
    expected = coco.decode(coco.merge(coco.frPyObjects(parts, 20, 24))).astype(bool)
    np.testing.assert_array_equal(pasted(parts, (20, 24)), expected)


def test_a_polygon_along_pixel_edges_by_hand():
    expected = np.zeros((5, 6), bool)
    expected[1:4, 2:5] = True
    np.testing.assert_array_equal(pasted([[2, 1, 5, 1, 5, 4, 2, 4]], (5, 6)), expected)


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ([], "an empty list"),
        ([[0, 0, 1, 1]], r"3 corners or more, got \[0, 0, 1, 1\]"),
        ([[0, 0, 1, 1, 2]], "3 corners or more"),
        ([[0, 0, 1, 1, 2, float("nan")]], "3 corners or more"),
        ([[[0, 0], [1, 1], [2, 0]]], "3 corners or more"),
        ([["a"] * 6], "3 corners or more"),
        ([[0, 0, 4, 4, 4, 0, 0, 4]], r"crosses itself \(Self-intersection\[2 2\]\)"),
        ([[0, 0, 1e9, 1, 2, 2]], r"a corner at \[1000000000.0, 1.0\] \(x, y\), far outside the image of 5 × 6 px"),
        ({"size": [6, 5], "counts": "n0"}, r"size must be \[5, 6\] \(height, width\), got \[6, 5\]"),
        ({"size": [5, 6], "counts": [3, -1, 28]}, "-1"),
        ({"size": [5, 6], "counts": [3, 28]}, "got 31"),
        ({"size": [5, 6], "counts": "~"}, "not a compressed COCO RLE string"),
        ({"size": [5, 6]}, "RLE with size and counts, or polygons"),
        (None, "RLE with size and counts, or polygons, got None"),
    ],
)
def test_what_is_no_mask_of_the_image_is_a_data_error(segmentation, says):
    with pytest.raises(DataError, match=says):
        decode_segmentation(segmentation, (5, 6))
