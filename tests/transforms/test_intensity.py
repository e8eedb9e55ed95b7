import colorsys
import math

import numpy as np
import pytest
import torch

from everycell.transforms import intensity


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grey(value: float, side: int = 4) -> torch.Tensor:
    return torch.full((3, side, side), value)


def spread(values: list[float], low: float, high: float) -> None:
    """The values look like U(low, high): never outside, and within 2 % of both ends in 1000 draws."""
    margin = 0.02 * (high - low)
    assert low - 1e-5 <= min(values) <= low + margin
    assert high - margin <= max(values) <= high + 1e-5
    assert np.mean(values) == pytest.approx((low + high) / 2, abs=2 * margin)


def test_jitter_of_brightness_contrast_and_saturation_is_a_fifth():
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    half = torch.tensor([0.25, 0.75, 0.5]).view(3, 1, 1).expand(3, 2, 2)
    luma = 0.2989 * 0.25 + 0.587 * 0.75 + 0.114 * 0.5
    brightness, contrast, saturation = [], [], []
    for seed in range(1000):
        gains = {
            name: intensity.colour_jitter(half, seeded(seed), **{k: v for k, v in off.items() if k != name})
            for name in ("brightness", "contrast", "saturation")
        }
        brightness.append(float(gains["brightness"][0, 0, 0]) / 0.25)
        contrast.append((float(gains["contrast"][0, 0, 0]) - luma) / (0.25 - luma))
        saturation.append((float(gains["saturation"][0, 0, 0]) - luma) / (0.25 - luma))
    for factors in (brightness, contrast, saturation):
        spread(factors, 0.8, 1.2)


def test_jitter_of_hue_is_three_hundredths():
    red = torch.tensor([0.8, 0.2, 0.2]).view(3, 1, 1)
    shifts = []
    for seed in range(1000):
        moved = intensity.colour_jitter(red, seeded(seed), brightness=0, contrast=0, saturation=0)
        hue = colorsys.rgb_to_hsv(*moved.flatten().tolist())[0]
        shifts.append((hue + 0.5) % 1 - 0.5)
    spread(shifts, -0.03, 0.03)


def test_shift_multiplies_only_pixels_darker_than_seven_tenths_by_one_factor():
    image = torch.tensor([0.1, 0.69, 0.7, 0.71, 1.0]).view(1, 1, 5).expand(3, 1, 5)
    factors = []
    for seed in range(1000):
        moved = intensity.intensity_shift(image, seeded(seed))
        assert moved[:, 0, 2:].equal(image[:, 0, 2:])
        ratios = moved[:, 0, :2] / image[:, 0, :2]
        assert float(ratios.max() - ratios.min()) < 1e-6
        factors.append(float(ratios[0, 0]))
    spread(factors, 0.8, 1.2)


def test_equalise_spreads_each_channel_alone():
    ramp = (torch.arange(64) / 255).view(1, 8, 8)  # levels 0 … 63, one pixel each
    image = torch.cat([ramp, ramp * 4, torch.full_like(ramp, 0.5)])
    levels = (intensity.equalise(image, seeded(0)) * 255).round().int()
    # Below 255 pixels there is less than one pixel a level, and torchvision leaves the channel alone.
    assert levels[0].flatten().tolist() == list(range(64))
    many = image.repeat(1, 16, 16)  # 256 pixels a level, (256 * 63) // 255 = 63 pixels a step
    levels = (intensity.equalise(many, seeded(0)) * 255).round().int()
    expected = {min(255, (256 * k + 31) // 63) for k in range(64)}
    assert set(levels[0].flatten().tolist()) == set(levels[1].flatten().tolist()) == expected
    assert set(levels[2].flatten().tolist()) == {128}


def test_blur_has_kernel_3_and_sigma_from_a_tenth_to_two():
    impulse = torch.zeros(3, 7, 7)
    impulse[:, 3, 3] = 1
    for seed in range(200):
        sigma = 0.1 + 1.9 * float(torch.rand((), generator=seeded(seed)))
        side = math.exp(-0.5 / sigma**2)
        line = torch.tensor([0, 0, side, 1, side, 0, 0]) / (1 + 2 * side)
        expected = (line[:, None] * line).expand(3, 7, 7)
        torch.testing.assert_close(intensity.gaussian_blur(impulse, seeded(seed)), expected, rtol=0, atol=1e-6)


def test_noise_has_a_standard_deviation_of_three_hundredths_and_is_clipped():
    noise = intensity.gaussian_noise(grey(0.5, 300), seeded(0)) - 0.5
    assert float(noise.std()) == pytest.approx(0.03, rel=0.01)
    assert float(noise.mean()) == pytest.approx(0, abs=3e-4)
    black = intensity.gaussian_noise(grey(0.0, 300), seeded(0))
    assert float((black == 0).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_gamma_raises_to_one_power():
    image = torch.tensor([0.25, 0.5]).view(1, 1, 2).expand(3, 1, 2)
    powers = []
    for seed in range(1000):
        moved = intensity.gamma(image, seeded(seed))[0, 0]
        powers.append(float(moved[1].log() / math.log(0.5)))
        assert float(moved[0].log() / math.log(0.25)) == pytest.approx(powers[-1], rel=1e-4)
    spread(powers, 0.6, 1.6)


def test_erasing_fills_one_rectangle_of_two_to_ten_per_cent():
    for seed in range(300):
        erased = (intensity.random_erasing(grey(1.0, 100), seeded(seed)) == 0.5).all(0)
        rows, columns = erased.any(1).nonzero().flatten(), erased.any(0).nonzero().flatten()
        assert erased[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 0.018 < float(erased.float().mean()) < 0.102
