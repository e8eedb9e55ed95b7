import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from everycell.formats.outlines import crossing, fill, trace
from everycell.structures import MaskCrops


def one(rows, origin=(0, 0)):
    bits = np.array([[character == "#" for character in row] for row in rows])
    return MaskCrops.from_crops(np.array([origin]), [bits])


@st.composite
def random_masks(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(0, 3))
    crops = [rng.random(rng.integers(1, 12, 2)) < draw(st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0])) for _ in range(n)]
    return MaskCrops.from_crops(rng.integers(0, 20, (n, 2)), crops)


@given(random_masks())
def test_outlines_are_valid_exact_and_fill_to_the_same_pixels(masks):
    traced = trace(masks)
    for parts, area, (rows, columns, bits) in zip(traced, masks.areas(), masks, strict=True):
        shape = shapely.MultiPolygon([(outer, holes) for outer, *holes in parts])
        assert shapely.is_valid(shape), shapely.is_valid_reason(shape)
        assert shape.area == area
        for outer, *holes in parts:
            assert shapely.LinearRing(outer).is_ccw
            assert not any(shapely.LinearRing(hole).is_ccw for hole in holes)
        expected = np.zeros((32, 32), bool)
        expected[rows, columns] = bits
        filled = np.zeros_like(expected)
        if area:
            (x, y), crop = fill(parts, (32, 32))
            filled[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        np.testing.assert_array_equal(filled, expected)


def test_single_pixel_by_hand():
    assert trace(one(["#"], origin=(3, 5))) == [[[[(3, 5), (4, 5), (4, 6), (3, 6), (3, 5)]]]]


def test_straight_runs_have_no_extra_points():
    [[[ring]]] = trace(one(["####", "####"]))
    assert ring == [(0, 0), (4, 0), (4, 2), (0, 2), (0, 0)]


def test_a_hole_is_an_interior_ring():
    [[[outer, hole]]] = trace(one(["###", "#.#", "###"]))
    assert len(outer) == 5
    assert sorted(set(hole)) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_diagonal_pixels_are_two_parts():
    assert [len(parts) for parts in trace(one(["#.", ".#"]))] == [2]


def test_a_hole_goes_to_the_part_around_it():
    [parts] = trace(one(["###.....", "#.#.####", "###.#..#", "....####"]))
    assert [len(rings) for rings in parts] == [2, 2]


def test_fill_takes_pixels_whose_centre_is_inside():
    # A triangle over (0,0), (4,0), (0,4): centres with x + y < 4 are inside.
    (x, y), bits = fill([[[(0, 0), (4, 0), (0, 4), (0, 0)]]], (10, 10))
    centres = np.arange(bits.shape[0])[:, None] + 0.5 + y + np.arange(bits.shape[1]) + 0.5 + x
    assert bits.sum() == (centres < 4).sum() == 6


def test_fill_cuts_at_the_image_border():
    (x, y), bits = fill([[[(-3, -2), (2, -2), (2, 3), (-3, 3), (-3, -2)]]], (10, 10))
    assert (x, y) == (0, 0)
    assert bits.sum() == 2 * 3
    _, nothing = fill([[[(20, 20), (22, 20), (22, 22), (20, 20)]]], (10, 10))
    assert nothing.size == 0


def rings(*parts):
    return [[np.array([*ring, ring[0]], float) for ring in part] for part in parts]


BOX = [(0, 0), (8, 0), (8, 8), (0, 8)]
STAR = [(5 + 5 * np.sin(0.8 * np.pi * i), 5 + 5 * np.cos(0.8 * np.pi * i)) for i in range(5)]


@pytest.mark.parametrize(
    "parts",
    [
        [[[(0, 0), (4, 4), (4, 0), (0, 4)]]],
        [[STAR]],
        [[BOX, [(6, 2), (10, 2), (10, 4), (6, 4)]]],
        [[BOX, [(20, 20), (21, 20), (21, 21)]]],
        [[BOX], [[(4, 4), (12, 4), (12, 12), (4, 12)]]],
    ],
    ids=["bow tie", "star", "hole across the border", "hole elsewhere", "overlapping parts"],
)
def test_outlines_that_cross_are_found(parts):
    assert crossing(rings(*parts)) is not None


@pytest.mark.parametrize(
    "parts",
    [
        [[BOX]],
        [[BOX[::-1]]],
        [[[(0, 0), (4, 0), (8, 0), (4, 0), (4, 4), (0, 4)]]],
        [[[(0, 0), (2, 2), (4, 0), (4, 4), (2, 2), (0, 4)]]],
        [[BOX, [(0, 2), (2, 2), (2, 4), (0, 4)]]],
        [[BOX], [[(8, 4), (12, 4), (12, 12), (8, 12)]]],
        [[[(0, 0), (4, 0), (2, 0)]]],
    ],
    ids=["box", "the other way round", "spike", "touching", "hole at the border", "parts side by side", "line"],
)
def test_outlines_that_touch_pass(parts):
    assert crossing(rings(*parts)) is None
    far = [[ring + 1e5 for ring in part] for part in rings(*parts)]
    assert crossing(far) is None


@given(random_masks())
def test_traced_outlines_never_cross(masks):
    for parts in trace(masks):
        if parts:
            assert crossing([[np.array(ring) for ring in part] for part in parts]) is None
