"""Augmentations of colour and intensity.

Each is a function of an image, float32 [3, H, W] in [0, 1], and a random generator; it returns a new image of the
same shape and range. Randomness comes from the generator alone, so the same seed gives the same image.
"""

from __future__ import annotations

import torch
import torchvision.transforms.v2.functional as F
from torch import Generator, Tensor


def uniform(generator: Generator, low: float, high: float) -> float:
    """One number from U(low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def colour_jitter(
    image: Tensor,
    generator: Generator,
    *,
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.2,
    hue: float = 0.03,
) -> Tensor:
    """Brightness, contrast and saturation times U(1 - x, 1 + x), hue plus U(-hue, hue), in random order."""
    for step in torch.randperm(4, generator=generator).tolist():
        if step == 0:
            image = F.adjust_brightness(image, uniform(generator, 1 - brightness, 1 + brightness))
        elif step == 1:
            image = F.adjust_contrast(image, uniform(generator, 1 - contrast, 1 + contrast))
        elif step == 2:
            image = F.adjust_saturation(image, uniform(generator, 1 - saturation, 1 + saturation))
        else:
            image = F.adjust_hue(image, uniform(generator, -hue, hue))
    return image


def intensity_shift(
    image: Tensor, generator: Generator, *, threshold: float = 0.7, low: float = 0.8, high: float = 1.2
) -> Tensor:
    """Multiply pixels darker than `threshold` by one factor from U(low, high)."""
    factor = uniform(generator, low, high)
    return torch.where(image < threshold, image * factor, image).clamp(0, 1)


def equalise(image: Tensor, generator: Generator) -> Tensor:
    """Histogram equalisation of each channel over the whole image."""
    equalised: Tensor = F.equalize((image * 255).round().to(torch.uint8))
    return equalised.float() / 255


def gaussian_blur(
    image: Tensor, generator: Generator, *, kernel: int = 3, low: float = 0.1, high: float = 2.0
) -> Tensor:
    """Gaussian blur of `kernel` px with sigma from U(low, high) px."""
    if min(image.shape[1:]) <= kernel // 2:
        return image  # too small for the blur's reflected border
    blurred: Tensor = F.gaussian_blur(image, [kernel, kernel], [uniform(generator, low, high)])
    return blurred


def gaussian_noise(image: Tensor, generator: Generator, *, sd: float = 0.03) -> Tensor:
    """Add noise of standard deviation `sd`, clipped to [0, 1]."""
    return (image + torch.randn(image.shape, generator=generator) * sd).clamp(0, 1)


def gamma(image: Tensor, generator: Generator, *, low: float = 0.6, high: float = 1.6) -> Tensor:
    """Raise intensities to the power U(low, high)."""
    return image.clamp(0, 1) ** uniform(generator, low, high)


def random_erasing(image: Tensor, generator: Generator, *, low: float = 0.02, high: float = 0.1) -> Tensor:
    """Fill one rectangle of U(low, high) of the image's area with grey (Zhong et al. 2020); the truth stays."""
    height, width = image.shape[1:]
    area, ratio = uniform(generator, low, high) * height * width, uniform(generator, 0.5, 2.0)
    h, w = min(height, round((area * ratio) ** 0.5)), min(width, round((area / ratio) ** 0.5))
    top, left = (int(uniform(generator, 0, limit)) for limit in (height - h + 1, width - w + 1))
    image = image.clone()
    image[:, top : top + h, left : left + w] = 0.5
    return image
