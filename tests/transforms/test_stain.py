import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.color import separate_stains

from everycell.transforms.stain import mix, restain, stain_colours, stain_jitter, unmix

TISSUE_COLOURS = st.floats(1 / 64, 1, width=32)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def tissue():
    """Purple dots on pink, with a white border."""
    image = torch.ones(3, 24, 30)
    eosin = torch.tensor([0.07, 0.99, 0.11])
    image[:, 4:20, 4:26] = torch.exp(-0.8 * eosin / eosin.norm())[:, None, None]
    image[:, 8:12, 8:12] = torch.tensor([0.35, 0.2, 0.5])[:, None, None]
    return image


@given(hnp.arrays(np.float32, (3, 2, 3), elements=TISSUE_COLOURS))
def test_unmixing_is_that_of_scikit_image(pixels):
    # skimage counts density in units of log10(10⁶) and cuts negative amounts off.
    inverse = np.linalg.inv(stain_colours().double().numpy())
    expected = 6 * separate_stains(pixels.astype(np.float64).transpose(1, 2, 0), inverse).transpose(2, 0, 1)
    np.testing.assert_allclose(unmix(torch.from_numpy(pixels)).clamp(min=0), expected, atol=1e-5)


@given(hnp.arrays(np.float32, (3, 2, 3), elements=TISSUE_COLOURS))
def test_mixing_undoes_unmixing(pixels):
    image = torch.from_numpy(pixels)
    torch.testing.assert_close(mix(unmix(image), stain_colours()), image, rtol=0, atol=1e-5)
    torch.testing.assert_close(stain_jitter(image, seeded(0), sigma=0), image, rtol=0, atol=1e-5)


def test_a_colour_by_hand():
    amounts = torch.tensor([0.0, 0.5, 0.0]).view(3, 1, 1)  # eosin alone, length of (0.07, 0.99, 0.11) is 0.9985
    expected = [10 ** (-0.5 * density / 0.99855) for density in (0.07, 0.99, 0.11)]
    assert mix(amounts, stain_colours()).flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_jitter_scales_and_shifts_each_stain_by_up_to_five_hundredths():
    amounts = torch.tensor([[0.2, 0.6]] * 3).view(3, 1, 2)  # two amounts of each stain give a straight line
    image = mix(amounts, stain_colours())
    draws = []
    for seed in range(1000):
        low, high = unmix(stain_jitter(image, seeded(seed)))[:, 0].double().T
        scale = (high - low) / 0.4
        draws.append(torch.cat([scale - 1, low - 0.2 * scale]))
    scale_and_shift = torch.stack(draws).numpy()
    assert np.abs(scale_and_shift).max() <= 0.05 + 1e-4
    np.testing.assert_allclose(scale_and_shift.min(axis=0), -0.05, atol=1e-3)
    np.testing.assert_allclose(scale_and_shift.max(axis=0), 0.05, atol=1e-3)
    np.testing.assert_allclose(scale_and_shift.std(axis=0), 0.1 / 12**0.5, rtol=0.08)
    independent = np.corrcoef(scale_and_shift.T)[np.triu_indices(6, 1)]
    assert np.abs(independent).max() < 5 / 1000**0.5  # five standard deviations


@pytest.mark.parametrize("step", [stain_jitter, restain])
def test_gray_images_are_left_alone(step):
    gray = torch.rand((1, 12, 12), generator=seeded(0)).expand(3, 12, 12)
    assert step(gray, seeded(0)) is gray


@pytest.mark.parametrize("seed", range(8))
def test_restaining_leaves_white_white(seed):
    stained = restain(tissue(), seeded(seed))
    assert (stained[:, :4] == 1).all()  # where there is no dye there is none afterwards
    assert (stained[:, 4:20, 4:26] - tissue()[:, 4:20, 4:26]).abs().max() > 0.02


def test_eosin_turns_brown():
    # Brown light has less blue than green; pink has more.
    pink = tissue()[:, 5, 5]
    assert pink[2] > pink[1]
    colours = [restain(tissue(), seeded(seed), hue=0.0, brown=1.0)[:, 5, 5] for seed in range(20)]
    assert any(colour[2] < colour[1] for colour in colours)
    colours = [restain(tissue(), seeded(seed), hue=0.0, brown=0.0)[:, 5, 5] for seed in range(20)]
    assert not any(colour[2] < colour[1] for colour in colours)
