import pytest
import torch

from everycell.transforms.stain import stain_shift


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def tissue():
    """Purple dots on pink, with a white border."""
    image = torch.ones(3, 24, 30)
    eosin = torch.tensor([0.07, 0.99, 0.11])
    image[:, 4:20, 4:26] = torch.exp(-0.8 * eosin / eosin.norm())[:, None, None]
    image[:, 8:12, 8:12] = torch.tensor([0.35, 0.2, 0.5])[:, None, None]
    return image


@pytest.mark.parametrize("seed", range(8))
def test_range_shape_and_white_stay(seed):
    shifted = stain_shift(tissue(), seeded(seed))
    assert shifted.shape == (3, 24, 30)
    assert shifted.min() >= 0
    assert shifted.max() <= 1
    assert (shifted[:, :4] == 1).all()  # where there is no dye there is none afterwards
    assert not torch.equal(shifted, tissue())


def test_the_same_seed_gives_the_same_image():
    before = torch.get_rng_state()
    assert torch.equal(stain_shift(tissue(), seeded(3)), stain_shift(tissue(), seeded(3)))
    assert torch.equal(before, torch.get_rng_state())


def test_gray_images_are_left_alone():
    gray = torch.rand(1, 12, 12).expand(3, 12, 12)
    assert stain_shift(gray, seeded(0)) is gray


def test_eosin_turns_brown():
    # Brown light has less blue than green; pink has more.
    pink = tissue()[:, 5, 5]
    assert pink[2] > pink[1]
    colours = [stain_shift(tissue(), seeded(seed), hue=0.0, brown=1.0)[:, 5, 5] for seed in range(20)]
    assert any(colour[2] < colour[1] for colour in colours)
    colours = [stain_shift(tissue(), seeded(seed), hue=0.0, brown=0.0)[:, 5, 5] for seed in range(20)]
    assert not any(colour[2] < colour[1] for colour in colours)
