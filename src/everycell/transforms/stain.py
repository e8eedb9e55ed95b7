"""Stain augmentation: separate a stained section into its dyes, then dye it anew.

Optical densities are unmixed with the stain vectors of Ruifrok & Johnston 2001 (haematoxylin, eosin, DAB), and mixed
again with other strengths and hues; the counterstain may turn from eosin towards DAB brown, so that a model trained on
H&E also reads immunohistochemistry.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from everycell.transforms.intensity import uniform

_HAEMATOXYLIN, _EOSIN, _DAB = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78)
_GRAY = 3 / 255  # mean spread of the channels under which an image has no stain
_DARKEST = 1 / 255


def stain_shift(image: Tensor, generator: Generator, *, hue: float = 0.08, brown: float = 0.5) -> Tensor:
    """Change strength and hue of each stain; a gray image comes back as it is.

    Args:
        image: float32 [3, H, W] in [0, 1].
        generator: the only source of randomness.
        hue: standard deviation added to each stain vector.
        brown: probability that the counterstain moves from eosin towards DAB.
    """
    if float((image.amax(0) - image.amin(0)).mean()) < _GRAY:
        return image
    stains = torch.nn.functional.normalize(torch.tensor([_HAEMATOXYLIN, _EOSIN, _DAB]), dim=1)
    density = -torch.log(image.clamp(min=_DARKEST))
    amounts = torch.einsum("chw,cs->shw", density, torch.linalg.inv(stains)).clamp(min=0)
    share = uniform(generator, 0, 1) if float(torch.rand((), generator=generator)) < brown else 0.0
    dyes = stains.clone()
    dyes[1] = (1 - share) * stains[1] + share * stains[2]
    dyes = torch.nn.functional.normalize((dyes + torch.randn(3, 3, generator=generator) * hue).clamp(min=0), dim=1)
    haematoxylin, counterstain = uniform(generator, 0.3, 1.4), 3.0 ** uniform(generator, -1.5, 1.5)
    strengths = torch.tensor([haematoxylin, counterstain, uniform(generator, 0.5, 1.2)])
    return torch.exp(-torch.einsum("shw,sc->chw", amounts * strengths[:, None, None], dyes)).clamp(0, 1)
