import base64
import io

import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

from everycell.evaluate import Evaluator
from everycell.report.pictures import OUTCOMES, figure_uri, picture_uri, show_outcomes
from everycell.structures import Instances
from everycell.structures.colors import class_color


def decode(uri):
    head, text = uri.split(",", 1)
    assert head == "data:image/jpeg;base64"
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.mark.parametrize(
    ("size", "shown"),
    [((40, 60), (320, 480)), ((33, 1), (264, 8)), ((600, 2000), (512, 512)), ((256, 512), (320, 640))],
)
def test_pictures_are_small_and_of_the_same_shape(size, shown):
    pixels = np.zeros((*size, 3), np.uint8)
    assert decode(picture_uri(pixels, Instances.empty(size))).shape == (*shown, 3)


def test_a_large_image_shows_its_middle():
    pixels = np.zeros((700, 900, 3), np.uint8)
    pixels[94:606, 194:706] = 200  # the middle 512 px
    picture = decode(picture_uri(pixels, Instances.empty((700, 900))))
    assert picture.min() > 190


def test_outlines_have_their_class_colour():
    labels = np.zeros((512, 512), np.uint8)
    labels[100:400, 100:400] = 1
    picture = decode(picture_uri(np.zeros((512, 512, 3), np.uint8), Instances.from_labels(labels)))
    scale = 640 / 512
    edge, inside = picture[round(250 * scale), round(101 * scale)], picture[320, 320]
    assert np.abs(edge.astype(int) - (20, 210, 60)).max() < 40
    assert inside.max() < 10


def test_a_figure_becomes_a_picture():
    assert decode(figure_uri(Figure(figsize=(2, 1)))).shape == (120, 240, 3)


def test_a_large_image_of_outcomes_shows_where_most_errors_lie():
    labels = np.zeros((1200, 1500), int)
    for k, (x, y) in enumerate([(1400, 1000), (1300, 1100), (1350, 900), (100, 100)], start=1):
        labels[y : y + 20, x : x + 20] = k
    truth = Instances.from_labels(labels)
    evaluator = Evaluator(["cell"])
    evaluator.add("wide", truth, Instances.empty(truth.image_size))
    pixels = np.zeros((1200, 1500, 3), np.uint8)
    pixels[688:, 988:] = 200  # the last 512 px
    shown = show_outcomes(evaluator.images[0], lambda name: pixels)
    assert shown.part == "the part with most errors"
    assert decode(shown.pred).min() > 190
    missed = np.abs(decode(shown.truth).astype(int) - class_color(OUTCOMES["missed or spurious"])).max(axis=2) < 60
    assert missed.any()
