import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import deltaE_ciede2000, rgb2lab

from everycell.plot import magnification, overlay
from everycell.plot.overlay import to_gray
from everycell.structures import Instances, MaskCrops
from everycell.structures.colors import CLASS_COLORS, class_color, instance_colors


def square(size=(1200, 1200), at=(100, 50), side=20, **options):
    masks = MaskCrops.from_crops(np.array([at]), [np.ones((side, side), bool)])
    return Instances.from_masks(masks, size, **options)


def test_the_outline_lies_just_inside_the_cell():
    pixels = np.full((1200, 1200, 3), 80, np.uint8)
    drawn = overlay(pixels, square(), width_px=2)
    changed = (drawn != pixels).any(axis=2)
    expected = np.zeros((1200, 1200), bool)
    expected[50:70, 100:120] = True
    expected[52:68, 102:118] = False
    np.testing.assert_array_equal(changed, expected)
    assert (drawn[expected] == CLASS_COLORS[0]).all()
    assert (pixels == 80).all()


@pytest.mark.parametrize(
    ("size", "factor"),
    [((1, 1), 8), ((256, 256), 7), ((520, 696), 2), ((1000, 1000), 2), ((1001, 20), 1), ((9000, 9000), 1)],
)
def test_magnification_rule(size, factor):
    assert magnification(size) == factor


def test_small_images_are_enlarged_pixel_by_pixel():
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    drawn = overlay(pixels, Instances.empty((4, 5)))
    assert drawn.shape == (32, 40, 3)
    np.testing.assert_array_equal(drawn[::8, ::8], pixels)


def test_the_higher_score_lies_on_top():
    masks = MaskCrops.from_crops(np.array([[0, 0], [0, 0]]), [np.ones((4, 4), bool)] * 2)
    for scores, top in (([0.9, 0.2], 1), ([0.2, 0.9], 2)):
        cells = Instances.from_masks(
            masks, (4, 4), scores=np.array(scores, np.float32), class_ids=np.array([1, 2], np.int64)
        )
        drawn = overlay(np.zeros((4, 4, 3), np.uint8), cells)
        assert tuple(drawn[0, 0]) == class_color(top)


def test_a_fill_mixes_colour_and_image():
    pixels = np.full((1200, 1200, 3), 100, np.uint8)
    drawn = overlay(pixels, square(class_ids=np.array([6])), opacity=0.5)  # class 6 is white
    assert drawn[60, 110].tolist() == [178, 178, 178]


def test_gray_leaves_no_colour_but_the_cells():
    pixels = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    drawn = overlay(pixels, square(), gray=True)
    outside = np.ones((1200, 1200), bool)
    outside[50:70, 100:120] = False
    assert (drawn[outside] == drawn[outside][:, :1]).all()
    assert to_gray(np.array([[[255, 255, 255], [255, 0, 0]]], np.uint8))[0].tolist() == [[255] * 3, [76] * 3]


def test_by_instance_gives_cells_of_one_class_different_colours():
    masks = MaskCrops.from_crops(np.array([[0, 0], [600, 600]]), [np.ones((9, 9), bool)] * 2)
    drawn = overlay(np.zeros((1200, 1200, 3), np.uint8), Instances.from_masks(masks, (1200, 1200)), by="instance")
    assert tuple(drawn[0, 0]) != tuple(drawn[600, 600])


@given(st.integers(0, 2**32 - 1))
def test_any_cells_draw_inside_their_masks_only(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, rng.integers(1, 12, 2))
    pixels = np.zeros((*labels.shape, 3), np.uint8)
    drawn = overlay(pixels, Instances.from_labels(labels), opacity=0.5)
    factor = magnification(labels.shape)
    enlarged = labels.repeat(factor, axis=0).repeat(factor, axis=1)
    np.testing.assert_array_equal(drawn.any(axis=2), enlarged > 0)


def test_class_colours_differ_to_the_eye_and_repeat():
    assert len(CLASS_COLORS) == 12
    lab = rgb2lab(np.array(CLASS_COLORS) / 255)
    assert deltaE_ciede2000(*(lab[i] for i in np.triu_indices(12, 1))).min() > 20  # 2 is just noticeable side by side
    assert class_color(1 + len(CLASS_COLORS)) == class_color(1)


def test_consecutive_instance_colours_differ_clearly():
    colors = instance_colors(500).astype(int)
    assert instance_colors(0).shape == (0, 3)
    assert np.abs(np.diff(colors, axis=0)).max(axis=1).min() > 60
    assert (colors.max(axis=1) == 255).all()
