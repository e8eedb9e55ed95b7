import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everycell.formats.cell_spool import CellSpool
from everycell.structures import Instances, MaskCrops


def noise(rng, size, n):
    """N overlapping cells of any size inside the image, some with equal scores, some without a pixel."""
    corners = np.sort(rng.integers(0, np.array(size)[:, None, None] + 1, (2, n, 2)), axis=2)
    (y0, y1), (x0, x1) = corners[0].T, corners[1].T
    crops = [rng.random((h, w)) < 0.6 for h, w in zip(y1 - y0, x1 - x0, strict=True)]
    masks = MaskCrops.from_crops(np.stack([x0, y0], axis=1), crops)
    return Instances.from_masks(masks, size, scores=(rng.integers(0, 4, n) / 4).astype(np.float32))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 12), level=st.integers(0, 3))
def test_tiles_of_any_level_are_those_of_the_label_image(seed, n, level):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 40, 2).tolist())
    cells = noise(rng, size, n)
    spool = CellSpool(io.BytesIO())
    for part in np.array_split(np.arange(n), rng.integers(1, 4)):
        spool.add(cells.select(part))
    spool.finish()
    expected = cells.to_labels()[:: 2**level, :: 2**level]
    made = np.zeros_like(expected)
    height, width = expected.shape
    for y in range(0, height, 7):
        for x in range(0, width, 7):
            window = (x, y, min(x + 7, width), min(y + 7, height))
            made[y : y + 7, x : x + 7] = spool.tile(size, level, window)
    np.testing.assert_array_equal(made, expected)


def test_masks_come_back_bit_by_bit():
    cells = noise(np.random.default_rng(5), (30, 20), 9)
    spool = CellSpool(io.BytesIO())
    spool.add(cells)
    spool.finish()
    for i in range(9):
        origin, bits = spool.mask(i)
        assert origin == tuple(cells.masks.boxes[i, :2])
        np.testing.assert_array_equal(bits, cells.masks.crop(i))


@pytest.mark.parametrize(("n", "dtype"), [(0, np.uint16), (65_535, np.uint16), (65_536, np.uint32)])
def test_the_type_holds_the_highest_value(n, dtype):
    spool = CellSpool(io.BytesIO())
    spool.add(Instances.from_masks(MaskCrops(np.zeros((n, 4), np.int32), np.zeros(0, bool)), (9, 9)))
    assert spool.dtype == dtype
