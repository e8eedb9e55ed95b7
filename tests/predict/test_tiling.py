import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from everycell.predict.tiling import Tile, tile_image

sizes = st.tuples(st.integers(1, 400), st.integers(1, 400))


@given(sizes, st.integers(1, 150), st.integers(0, 60), st.integers(1, 32))
def test_tiling(size, tile_px, halo_px, multiple):
    assume(tile_px - 2 * halo_px >= multiple)
    tiles = tile_image(size, tile_px, halo_px, multiple=multiple)
    height, width = size
    owners = np.zeros(size, int)
    for tile in tiles:
        x0, y0, x1, y1 = tile.core
        assert x0 < x1 <= width
        assert y0 < y1 <= height
        assert x0 % multiple == y0 % multiple == 0
        owners[y0:y1, x0:x1] += 1
        u0, v0, u1, v1 = tile.window
        assert (u0, v0) == (max(0, x0 - halo_px), max(0, y0 - halo_px))
        assert (u1, v1) == (min(width, x1 + halo_px), min(height, y1 + halo_px))
        assert max(u1 - u0, v1 - v0) <= tile_px
    assert (owners == 1).all()


@given(sizes, st.floats(0, 0.999), st.floats(0, 0.999))
def test_every_point_has_exactly_one_owner(size, across, down):
    tiles = tile_image(size, 64, 10, multiple=8)
    x, y = across * size[1], down * size[0]
    assert sum(tile.owns(x, y) for tile in tiles) == 1


def test_by_hand():
    assert tile_image((50, 100), 100, 30) == [Tile((0, 0, 100, 50), (0, 0, 100, 50))]
    # 130 px in windows of 100 with a halo of 20: cores of at most 60, so three of 44 and what is left.
    tiles = tile_image((50, 130), 100, 20)
    assert [tile.core[::2] for tile in tiles] == [(0, 44), (44, 88), (88, 130)]
    assert [tile.window[::2] for tile in tiles] == [(0, 64), (24, 108), (68, 130)]
    assert [tile.core[0] for tile in tile_image((50, 130), 100, 20, multiple=16)] == [0, 48, 96]


def test_cores_own_their_first_edge_only():
    tile = Tile((10, 20, 30, 40), (0, 0, 50, 50))
    assert tile.owns(10, 20)
    assert not tile.owns(30, 20)
    assert not tile.owns(10, 40)
    assert tile.owns(8, 41, margin_px=2)
    assert not tile.owns(7.9, 30, margin_px=2)


def test_a_halo_that_leaves_no_core_is_our_own_mistake():
    with pytest.raises(AssertionError):
        tile_image((500, 500), 64, 32)
