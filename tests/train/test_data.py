from dataclasses import replace

import numpy as np
import torch

from everycell.config import ModelSettings, TrainSettings
from everycell.datasets import synthetic_sample
from everycell.structures import Image, Sample
from everycell.train.data import CropSource, make_target
from everycell.train.statistics import cells_per_class, common_mpp, data_facts, diameter_percentiles


class Synthetic:
    """Generated samples in place of a folder."""

    def __init__(self, sizes, n_classes=1):
        self.names = tuple(f"image{i}" for i in range(len(sizes)))
        self.class_names = tuple(f"class{i + 1}" for i in range(n_classes))
        self.samples = [
            synthetic_sample(np.random.default_rng(i), size, 12, n_classes=n_classes, name=name)
            for i, (size, name) in enumerate(zip(sizes, self.names, strict=True))
        ]

    def __len__(self):
        return len(self.samples)

    def load(self, i):
        return self.samples[i]


def make_source(sizes, *, model=None, **train):
    data = Synthetic(sizes)
    return CropSource(data, list(range(len(sizes))), model or ModelSettings(), TrainSettings(**train))


def test_target_of_a_hand_made_layer():
    layer = torch.zeros((1, 6, 8), dtype=torch.int32)
    layer[0, 1:4, 2:5] = 2
    layer[0, 4:6, 6:8] = 5
    layer[0, 0, 0:4] = 3  # one pixel high: too thin to teach
    target = make_target(layer, np.array([9, 4, 9, 9, 7], np.int64))
    assert target["boxes"].tolist() == [[2, 1, 5, 4], [6, 4, 8, 6]]
    assert target["labels"].tolist() == [4, 7]
    assert target["values"].tolist() == [2, 5]
    assert target["layer_of"].tolist() == [0, 0]


def test_target_without_cells():
    target = make_target(torch.zeros((1, 5, 5), dtype=torch.int32), np.zeros(0, np.int64))
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].dtype == torch.int64


def test_examples_depend_on_seed_epoch_and_place_alone():
    sizes = [(90, 120), (64, 64)]
    first = make_source(sizes, crop_px=64, recipe="nuclei")
    second = make_source(sizes, crop_px=64, recipe="nuclei")
    second.training_example(3, 5, 1)  # an earlier draw must not matter
    torch.manual_seed(123)
    a, b = first.training_example(1, 7, 0), second.training_example(1, 7, 0)
    assert torch.equal(a.image, b.image)
    assert torch.equal(a.target["layers"], b.target["layers"])
    assert not torch.equal(a.image, first.training_example(2, 7, 0).image)
    assert not torch.equal(a.image, first.training_example(1, 8, 0).image)


def test_training_examples_leave_torch_random_state_alone():
    source = make_source([(90, 120)], crop_px=64, recipe="report+erasing")
    before = torch.get_rng_state()
    source.training_example(1, 0, 0)
    assert torch.equal(before, torch.get_rng_state())


def test_crops_have_the_asked_size_and_smaller_images_stay_whole():
    source = make_source([(200, 300), (40, 50)], crop_px=96)
    assert source.training_example(1, 0, 0).image.shape == (3, 96, 96)
    assert source.training_example(1, 1, 1).image.shape == (3, 40, 50)


def test_magnified_crops_show_a_smaller_window():
    source = make_source([(200, 300)], crop_px=96, model=ModelSettings(magnification=2.0))
    example = source.training_example(1, 0, 0)
    assert example.image.shape == (3, 96, 96)
    assert example.target["layers"].shape == (1, 96, 96)
    # Labels come in 2 × 2 blocks: each image pixel became four.
    layer = example.target["layers"][0]
    assert torch.equal(layer[0::2, 0::2], layer[1::2, 1::2])


def test_jittered_crops_are_never_larger_than_asked():
    source = make_source([(300, 300)], crop_px=96, scale_jitter=(0.6, 1.3))
    sides = [source.training_example(1, place, 0).image.shape[1] for place in range(40)]
    assert len(set(sides)) > 1
    assert max(sides) == 96


def test_whole_images_follow_the_short_side_rule():
    source = make_source([(200, 300)], model=ModelSettings(resize_short_px=512))
    assert source.training_example(1, 0, 0).image.shape == (3, 512, 768)


def test_order_visits_every_image_once():
    source = make_source([(64, 64)] * 7)
    assert sorted(source.order(1, None)) == list(range(7))
    assert source.order(1, None) != source.order(2, None)


def test_larger_images_are_cut_more_often():
    source = make_source([(64, 64), (256, 256)], crop_px=64)
    drawn = source.order(1, 500)
    assert len(drawn) == 500
    assert drawn.count(1) == 400  # 4 of every 5


def test_validation_examples_never_change():
    source = make_source([(90, 120)], crop_px=64, recipe="nuclei", scale_jitter=(0.5, 2.0))
    a, b = source.validation_example(0), source.validation_example(0)
    assert torch.equal(a.image, b.image)


def test_diameters_of_known_areas():
    layers = np.zeros((1, 20, 20), np.int32)
    layers[0, :10, :10] = 1  # area 100
    layers[0, 15:17, 15:17] = 2  # area 4
    image = Image(np.zeros((20, 20, 3), np.uint8))
    sample = Sample("two", image, layers, np.ones(2, np.int64))
    low, middle, high = diameter_percentiles([sample])
    small, large = 2 * (4 / np.pi) ** 0.5, 2 * (100 / np.pi) ** 0.5
    assert middle == round((small + large) / 2, 2)
    assert small < low < middle < high < large
    assert diameter_percentiles([]) is None


def test_common_scale_needs_every_image_to_agree():
    def at(mpp):
        return Sample(
            "x", Image(np.zeros((4, 4, 3), np.uint8), mpp), np.zeros((1, 4, 4), np.int32), np.zeros(0, np.int64)
        )

    assert common_mpp([at(0.25), at(0.26)]) == 0.255
    assert common_mpp([at(0.25), at(0.5)]) is None
    assert common_mpp([at(0.25), at(None)]) is None


def test_the_fingerprint_follows_names_pixels_cells_and_classes():
    def facts(data):
        return data_facts(data.class_names, data.samples)

    plain = facts(Synthetic([(40, 50), (32, 32)], n_classes=2))
    assert plain.fingerprint == facts(Synthetic([(40, 50), (32, 32)], n_classes=2)).fingerprint
    assert plain.cells.sum() == sum(len(s.class_ids) for s in Synthetic([(40, 50), (32, 32)], n_classes=2).samples)

    changed = [Synthetic([(40, 50), (32, 32)], n_classes=2) for _ in range(5)]
    changed[0].samples[1].image.pixels[3, 4, 0] ^= 1
    changed[1].samples[0].layers[0, 0, 0] ^= 1
    changed[2].samples[0].class_ids[0] = 3 - changed[2].samples[0].class_ids[0]
    changed[3].samples[0] = replace(changed[3].samples[0], name="other")
    changed[4].class_names = ("round", "long")
    assert len({plain.fingerprint, *(facts(data).fingerprint for data in changed)}) == 6


def test_cells_of_each_class():
    layers = np.zeros((1, 4, 4), np.int32)
    sample = Sample("x", Image(np.zeros((4, 4, 3), np.uint8)), layers, np.array([1, 3, 3]))
    assert cells_per_class(sample, 4).tolist() == [1, 0, 2, 0]
