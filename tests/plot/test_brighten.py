import numpy as np

from everycell.plot import brighten


def test_dim_images_fill_the_range():
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[5:] = 40
    bright = brighten(pixels)
    assert (bright.min(), bright.max()) == (0, 255)
    assert (bright[5:] == 255).all()


def test_bright_images_stay_as_they_are():
    pixels = np.full((10, 10, 3), 200, np.uint8)
    assert brighten(pixels) is pixels


def test_a_black_image_stays_black():
    assert not brighten(np.zeros((4, 4, 3), np.uint8)).any()
