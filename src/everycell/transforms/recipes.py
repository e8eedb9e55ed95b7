"""Named augmentation recipes: lists of (probability, transform)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

from everycell.errors import ConfigError
from everycell.transforms import geometric, intensity, stain

Intensity = Callable[[Tensor, Generator], Tensor]

_REPORT: tuple[tuple[float, Intensity], ...] = (
    (0.9, intensity.colour_jitter),
    (0.7, intensity.intensity_shift),
    (0.3, intensity.equalise),
    (0.5, intensity.gaussian_blur),
    (0.6, intensity.gaussian_noise),
)
_NUCLEI: tuple[tuple[float, Intensity], ...] = (
    (0.7, stain.stain_shift),
    (0.8, partial(intensity.colour_jitter, brightness=0.25, contrast=0.25, saturation=0.3, hue=0.05)),
    (0.4, intensity.gamma),
    (0.2, partial(intensity.gaussian_blur, kernel=5, low=0.3, high=1.5)),
    (0.3, partial(intensity.gaussian_noise, sd=0.02)),
)
# Name → (flips and quarter turns or not, steps).
RECIPES: dict[str, tuple[bool, tuple[tuple[float, Intensity], ...]]] = {
    "none": (False, ()),
    "report": (False, _REPORT),
    "report+erasing": (False, (*_REPORT, (0.5, intensity.random_erasing))),
    "report+geometry": (True, _REPORT),
    "nuclei": (True, _NUCLEI),
}


def get_recipe(name: str) -> tuple[bool, tuple[tuple[float, Intensity], ...]]:
    """The entry of `RECIPES` called `name`.

    Raises:
        ConfigError: there is none; the message lists the known ones.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown augmentation recipe {name!r}; known are {', '.join(RECIPES)}")
    return RECIPES[name]


def augment(recipe: str, image: Tensor, layers: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Apply a recipe to an image and its truth.

    Args:
        recipe: a name in `RECIPES`.
        image: float32 [3, H, W] in [0, 1].
        layers: int32 [L, H, W], label layers.
        generator: the only source of randomness.

    Raises:
        ConfigError: the recipe is unknown.
    """
    turns, steps = get_recipe(recipe)
    if turns:
        image, layers = geometric.dihedral(image, layers, generator)
    for probability, transform in steps:
        if float(torch.rand((), generator=generator)) < probability:
            image = transform(image, generator)
    return image.contiguous(), layers.contiguous()
