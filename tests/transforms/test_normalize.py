import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from everycell.transforms import contrast_range, stretch


def grey(values) -> np.ndarray:
    return np.repeat(np.array(values, np.uint8).reshape(1, -1, 1), 3, axis=2)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (grey([0] * 9), (0, 8)),  # black
        (grey([255] * 9), (255, 263)),  # white
        (grey([100] * 9), (100, 108)),  # constant
        (grey([3, 4, 5, 6]), (3, 11)),  # nearly constant: not blown up
        (grey(range(100)), (0, 99)),
        (grey([20] * 15 + [60] * 85), (20, 60)),
        (grey([0] * 999 + [200]), (0, 8)),  # a thousandth of bright pixels is ignored
        (grey([0] * 997 + [200] * 3), (0, 200)),  # three thousandths are not
    ],
)
def test_contrast_range_by_hand(pixels, expected):
    assert contrast_range(pixels) == expected


def test_channels_share_one_range_so_that_hue_stays():
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = 50, 150
    assert contrast_range(pixels) == (0, 150)
    stretched = stretch(pixels, contrast_range(pixels))[0, 0]
    np.testing.assert_allclose(stretched, [1 / 3, 0, 1], atol=1e-6)


@given(hnp.arrays(np.uint8, (5, 6, 3)))
def test_stretched_pixels_lie_in_0_1_in_the_same_order(pixels):
    low, high = contrast_range(pixels)
    assert high - low >= 8
    stretched = stretch(pixels, (low, high))
    assert stretched.dtype == np.float32
    assert stretched.shape == pixels.shape
    expected = ((pixels.astype(np.float64) - low) / (high - low)).clip(0, 1)
    np.testing.assert_allclose(stretched, expected, atol=1e-6)


def test_without_limits_only_the_scale_changes():
    np.testing.assert_array_equal(stretch(grey([0, 51, 255]))[0, :, 0], np.array([0, 0.2, 1], np.float32))


def test_a_constant_image_is_dark_and_finite():
    for value in (0, 100, 255):
        pixels = grey([value] * 4)
        assert (stretch(pixels, contrast_range(pixels)) == 0).all()


def test_a_dim_image_is_brightened():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 21, (50, 50, 3), np.uint8)
    stretched = stretch(pixels, contrast_range(pixels))
    assert stretched.max() == 1
    assert stretched.mean() == pytest.approx(0.5, abs=0.02)
