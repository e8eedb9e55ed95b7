import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from everycell.predict.tiling import Tile, Tiling

sizes = st.tuples(st.integers(1, 400), st.integers(1, 400))


@given(sizes, st.integers(1, 150), st.integers(0, 60), st.integers(1, 32))
def test_tiling(size, tile_px, halo_px, multiple):
    assume(tile_px - 2 * halo_px >= multiple)
    tiles = Tiling(size, tile_px, halo_px, multiple).tiles
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
    tiling = Tiling(size, 64, 10, multiple=8)
    x, y = across * size[1], down * size[0]
    [owner] = [number for number, tile in enumerate(tiling.tiles) if tile.owns(x, y)]
    assert tiling.owners(np.array([[x, y]])).tolist() == [owner]


def test_by_hand():
    assert Tiling((50, 100), 100, 30).tiles == [Tile((0, 0, 100, 50), (0, 0, 100, 50))]
    # 130 px in windows of 100 with a halo of 20: cores of at most 60, so three of 44 and what is left.
    tiles = Tiling((50, 130), 100, 20).tiles
    assert [tile.core[::2] for tile in tiles] == [(0, 44), (44, 88), (88, 130)]
    assert [tile.window[::2] for tile in tiles] == [(0, 64), (24, 108), (68, 130)]
    assert [tile.core[0] for tile in Tiling((50, 130), 100, 20, multiple=16).tiles] == [0, 48, 96]


def test_cores_own_their_first_edge_only():
    tile = Tile((10, 20, 30, 40), (0, 0, 50, 50))
    assert tile.owns(10, 20)
    assert not tile.owns(30, 20)
    assert not tile.owns(10, 40)
    assert tile.owns(8, 41, margin_px=2)
    assert not tile.owns(7.9, 30, margin_px=2)


def test_a_halo_that_leaves_no_core_is_our_own_mistake():
    with pytest.raises(AssertionError):
        Tiling((500, 500), 64, 32)


@settings(max_examples=40)
@given(sizes, st.integers(1, 150), st.integers(0, 60), st.integers(1, 32))
def test_parts_of_a_tile_have_its_core_and_its_halo(size, tile_px, halo_px, multiple):
    assume(tile_px - 2 * halo_px >= multiple)
    tiling = Tiling(size, tile_px, halo_px, multiple)
    for tile in tiling.tiles[:3]:
        parts = tiling.split(tile)
        if not parts:
            continue
        assert len(parts) in (2, 4)
        assert len({part.window for part in parts}) == len(parts)
        assert {part.window for part in parts} != {tile.window}
        covered = np.zeros(size, int)
        for part in parts:
            x0, y0, x1, y1 = part.core
            covered[y0:y1, x0:x1] += 1
            assert x0 % multiple == y0 % multiple == 0
            u0, v0, u1, v1 = part.window
            assert (u0, v0) == (max(0, x0 - halo_px), max(0, y0 - halo_px))
            assert (u1, v1) == (min(size[1], x1 + halo_px), min(size[0], y1 + halo_px))
        x0, y0, x1, y1 = tile.core
        assert (covered[y0:y1, x0:x1] == 1).all()
        assert covered.sum() == (x1 - x0) * (y1 - y0)


def test_splitting_ends():
    tiling = Tiling((400, 400), 400, 50)
    sides, tiles = [], tiling.tiles
    while tiles:
        sides.append(tiles[0].core[2])
        tiles = tiling.split(tiles[0])
    assert sides == [400, 200, 100, 50, 25]  # a core of 12 px in a window of 62 would help no more
    assert Tiling((400, 400), 400, 0, multiple=400).split(Tile((0, 0, 400, 400), (0, 0, 400, 400))) == []


def test_cuts_by_hand():
    tiling = Tiling((100, 100), 60, 10)
    inner, corner = (20, 30, 70, 80), (0, 0, 50, 50)
    boxes = np.array(
        [[21, 40, 30, 50], [20, 40, 30, 50], [40, 40, 70, 50], [30, 40, 40, 79], [30, 40, 40, 80]], np.int32
    )
    assert tiling.cuts(inner, boxes).tolist() == [False, True, True, False, True]
    assert tiling.cuts(inner, boxes, 1).tolist() == [True, True, True, True, True]
    boxes = np.array([[0, 0, 5, 5], [40, 0, 50, 9], [0, 40, 9, 50]], np.int32)
    assert tiling.cuts(corner, boxes).tolist() == [False, True, True]
    assert tiling.cuts((0, 0, 100, 100), np.array([[0, 0, 100, 100]], np.int32), 3).tolist() == [False]
