import numpy as np
import pytest

from everycell.io import open_source
from everycell.predict.background import is_background


@pytest.mark.parametrize(("step", "expected"), [(0, True), (9, True), (10, False), (60, False)])
def test_a_spot_of_enough_contrast_is_something(step, expected):
    pixels = np.full((64, 96, 3), 100, np.uint8)
    pixels[20:32, 40:52, 1] += np.uint8(step)
    with open_source(pixels) as source:
        assert is_background(source, (0, 0, 96, 64), 10) is expected
        assert is_background(source, (0, 0, 36, 64), 10)


def test_noise_is_averaged_away():
    pixels = np.random.default_rng(0).integers(96, 105, (512, 512, 3)).astype(np.uint8)
    with open_source(pixels) as source:
        assert is_background(source, (0, 0, 512, 512), 8)
        assert not is_background(source, (0, 0, 512, 512), 2)
