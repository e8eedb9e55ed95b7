"""Stain augmentation: separate a stained section into its dyes, change their amounts, and mix them again.

Each dye takes away light in proportion to its amount, so optical densities, -log10 of the light that is left, add up.
Haematoxylin, eosin and DAB with the colours measured by Ruifrok & Johnston 2001 are unmixed by one 3×3 inverse.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from everycell.transforms.intensity import uniform

_HAEMATOXYLIN, _EOSIN, _DAB = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78)
_GRAY = 3 / 255  # mean spread of the channels under which an image has no stain
_DARKEST = 1 / 255


def stain_colours() -> Tensor:
    """Optical density of red, green and blue in one unit of haematoxylin, eosin and DAB: float32 [3, 3], unit rows."""
    return torch.nn.functional.normalize(torch.tensor([_HAEMATOXYLIN, _EOSIN, _DAB]), dim=1)


def unmix(image: Tensor) -> Tensor:
    """Amounts of haematoxylin, eosin and DAB, float32 [3, H, W]; negative where these three cannot make the colour."""
    density = -torch.log10(image.clamp(min=_DARKEST))
    return torch.einsum("chw,cs->shw", density, torch.linalg.inv(stain_colours()))


def mix(amounts: Tensor, colours: Tensor) -> Tensor:
    """The image, float32 [3, H, W] in [0, 1], of `amounts` [3, H, W] of dyes with `colours` [3, 3]."""
    return (10 ** -torch.einsum("shw,sc->chw", amounts, colours)).clamp(0, 1)


def stain_jitter(image: Tensor, generator: Generator, *, sigma: float = 0.05) -> Tensor:
    """Scale the amount of each stain by U(1 - sigma, 1 + sigma), then add U(-sigma, sigma) (Tellez et al. 2018).

    A gray image has no stain and comes back as it is.
    """
    if _is_gray(image):
        return image
    scale, shift = (sigma * (2 * torch.rand((2, 3, 1, 1), generator=generator) - 1)).unbind()
    return mix(unmix(image) * (1 + scale) + shift, stain_colours())


def restain(image: Tensor, generator: Generator, *, hue: float = 0.08, brown: float = 0.5) -> Tensor:
    """Dye anew: other strengths and other hues, and the counterstain may turn from eosin towards DAB's brown.

    Far stronger than `stain_jitter`, so that a model trained on H&E also reads immunohistochemistry. A gray image comes
    back as it is.

    Args:
        image: float32 [3, H, W] in [0, 1].
        generator: the only source of randomness.
        hue: standard deviation added to each stain's colour.
        brown: probability that the counterstain moves from eosin towards DAB.
    """
    if _is_gray(image):
        return image
    colours = stain_colours()
    share = uniform(generator, 0, 1) if float(torch.rand((), generator=generator)) < brown else 0.0
    dyes = colours.clone()
    dyes[1] = (1 - share) * colours[1] + share * colours[2]
    dyes = torch.nn.functional.normalize((dyes + torch.randn(3, 3, generator=generator) * hue).clamp(min=0), dim=1)
    haematoxylin, counterstain = uniform(generator, 0.3, 1.4), 3.0 ** uniform(generator, -1.5, 1.5)
    strengths = torch.tensor([haematoxylin, counterstain, uniform(generator, 0.5, 1.2)])
    return mix(unmix(image).clamp(min=0) * strengths[:, None, None], dyes)


def _is_gray(image: Tensor) -> bool:
    return float((image.amax(0) - image.amin(0)).mean()) < _GRAY
