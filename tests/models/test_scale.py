import pytest

from everycell.config import ModelSettings
from everycell.models import network_zoom


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 700), 1), ((256, 300), 2), ((1024, 1024), 0.5), ((100, 1333), 1), ((100, 2666), 0.5)]
)
def test_short_side_becomes_512_unless_the_long_one_passes_1333(size, expected):
    assert network_zoom(ModelSettings(resize_short_px=512), size) == expected


def test_fixed_magnification():
    assert network_zoom(ModelSettings(magnification=2.0), (1, 5000)) == 2.0
