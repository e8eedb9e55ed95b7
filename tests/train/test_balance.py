import numpy as np
import pytest
import torch

from everycell.config import ModelSettings, TrainSettings
from everycell.structures import Image, Sample
from everycell.train.balance import ClassBalance, draw_cell, window_around
from everycell.train.data import CropSource


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_table_by_hand():
    # 12 cells of class 1 in images 0 and 1, 4 of class 2 in image 1, none in images 2 and 3; class 3 never occurs.
    cells = np.array([[10, 0, 0], [2, 4, 0], [0, 0, 0], [0, 0, 0]])
    ones = np.ones(4, np.int64)
    even = ClassBalance(cells, ones, 1.0).table
    # Half of the draws for images without cells, a quarter anywhere in the others; the classes share the rest evenly,
    # class 1 among two images.
    eighth = 1 / 8
    assert even.tolist() == [
        [eighth, eighth / 2, 0, 0],
        [eighth, eighth / 2, eighth, 0],
        [0.25, 0, 0, 0],
        [0.25, 0, 0, 0],
    ]
    as_they_are = ClassBalance(cells, ones, 0.0).table.sum(axis=0)
    assert as_they_are == pytest.approx([0.75, 0.25 * 12 / 16, 0.25 * 4 / 16, 0])
    root = ClassBalance(cells, ones, 0.5).table.sum(axis=0)
    assert root[1] / root[2] == pytest.approx((12 / 4) ** 0.5)


def test_an_image_of_more_weight_comes_up_more():
    table = ClassBalance(np.array([[1], [1], [0]]), np.array([3, 1, 4]), 1.0).table
    assert table.tolist() == [[3 / 16, 3 / 16], [1 / 16, 1 / 16], [0.5, 0]]


@pytest.mark.parametrize("cells", [np.zeros((2, 3), np.int64), np.array([[0, 5, 0], [0, 1, 0]])])
def test_probabilities_add_up_to_one(cells):
    assert ClassBalance(cells, np.array([1, 2]), 0.7).table.sum() == pytest.approx(1)


def test_window_has_its_size_and_holds_the_centre_in_its_middle_half():
    starts = set()
    for seed in range(200):
        rows, columns = window_around((50.0, 80.0), (200, 300), 40, generator(seed))
        assert rows.stop - rows.start == columns.stop - columns.start == 40
        assert 10 <= 50 - rows.start <= 30
        assert 10 <= 80 - columns.start <= 30
        starts.add(rows.start)
    assert len(starts) == 21  # every place that is allowed


def test_window_stays_inside_the_image():
    assert window_around((0.0, 99.0), (100, 100), 40, generator()) == (slice(0, 40), slice(60, 100))
    assert window_around((5.0, 5.0), (30, 100), 40, generator())[0] == slice(0, 30)


def test_a_cell_of_the_class_is_drawn():
    layers = np.zeros((2, 20, 20), np.int32)
    layers[0, 2:5, 4:7] = 1
    layers[1, 10:13, 16:19] = 2
    layers[1, 1:4, 1:4] = 3
    sample = Sample("x", Image(np.zeros((20, 20, 3), np.uint8)), layers, np.array([1, 2, 1]))
    assert draw_cell(sample, 2, generator()) == (11.0, 17.0)
    assert {draw_cell(sample, 1, generator(seed)) for seed in range(20)} == {(3.0, 5.0), (2.0, 2.0)}


class Corners:
    """Big images with class 1 everywhere and, in every fifth image, one cell of class 2 in a corner."""

    class_names = ("common", "rare")

    def __init__(self):
        self.samples = []
        for i in range(10):
            layer, n = np.zeros((1, 256, 256), np.int32), 0
            for y in range(8, 256, 24):
                for x in range(8, 256, 24):
                    n += 1
                    layer[0, y - 4 : y + 4, x - 4 : x + 4] = n
            class_ids = np.ones(n, np.int64)
            class_ids[-1] = 2 if i % 5 == 0 else 1
            pixels = np.zeros((256, 256, 3), np.uint8)
            self.samples.append(Sample(f"image{i}", Image(pixels), layer, class_ids))
        self.samples[-1] = Sample("empty", Image(pixels), np.zeros((1, 256, 256), np.int32), np.zeros(0, np.int64))
        self.names = tuple(sample.name for sample in self.samples)

    def __len__(self):
        return len(self.samples)

    def load(self, i):
        return self.samples[i]


def make_source(balance, crop_px=64):
    train = TrainSettings(recipe="none", crop_px=crop_px, balance_classes=balance)
    return CropSource(Corners(), list(range(10)), ModelSettings(), train)


def draw(balance, count=300):
    source = make_source(balance)
    order = source.order(1, count)
    return order, [source.training_example(1, place, position) for place, position in enumerate(order)]


def share_with_rare_cell(examples):
    return sum(2 in example.target["labels"].tolist() for example in examples) / len(examples)


def test_the_rare_class_comes_up_more():
    # 2 of 1089 cells are rare. With strength 1 a quarter of the draws are meant for them, less a tenth without cells.
    assert share_with_rare_cell(draw(0.0)[1]) < 0.03
    assert share_with_rare_cell(draw(0.5)[1]) == pytest.approx(0.45 * 2**0.5 / (2**0.5 + 1087**0.5), abs=0.03)
    order, examples = draw(1.0)
    assert share_with_rare_cell(examples) == pytest.approx(0.225, abs=0.07)
    assert order.count(9) / len(order) == pytest.approx(0.1, abs=0.05)  # the image without cells keeps its share


def test_whole_images_are_drawn_by_their_classes():
    source = make_source(1.0, crop_px=None)
    assert source.training_example(1, 0, source.order(1, None)[0]).image.shape == (3, 256, 256)
    assert len(source.order(1, None)) == 10
    # Images 0 and 5 hold the rare class: all of its draws, and 2 of 9 of the others.
    order = source.order(1, 3000)
    assert sum(position in (0, 5) for position in order) / 3000 == pytest.approx(0.225 + 0.675 * 2 / 9, abs=0.03)


def test_balanced_crops_depend_on_seed_epoch_and_place_alone():
    first, second = draw(1.0, count=20), draw(1.0, count=20)
    assert first[0] == second[0]
    assert all(torch.equal(a.target["layers"], b.target["layers"]) for a, b in zip(first[1], second[1], strict=True))
