"""Named augmentation recipes: lists of (probability, transform), and options that are added to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from everycell.errors import ConfigError
from everycell.transforms import geometric, intensity, stain

Step = tuple[float, Callable[[Tensor, Generator], Tensor]]


class Recipe(NamedTuple):
    """What happens to an example: flips and quarter turns or not, then each step with its probability."""

    turns: bool
    steps: tuple[Step, ...]


RECIPES: dict[str, Recipe] = {
    "none": Recipe(False, ()),
    "report": Recipe(
        False,
        (
            (0.9, intensity.colour_jitter),
            (0.7, intensity.intensity_shift),
            (0.3, intensity.equalise),
            (0.5, intensity.gaussian_blur),
            (0.6, intensity.gaussian_noise),
        ),
    ),
    "nuclei": Recipe(
        True,
        (
            (0.7, stain.restain),
            (0.8, partial(intensity.colour_jitter, brightness=0.25, contrast=0.25, saturation=0.3, hue=0.05)),
            (0.4, intensity.gamma),
            (0.2, partial(intensity.gaussian_blur, kernel=5, low=0.3, high=1.5)),
            (0.3, partial(intensity.gaussian_noise, sd=0.02)),
        ),
    ),
    # One stain and scanner, as in a study of one's own: nuclei stay as dark as they are.
    "tissue": Recipe(
        True,
        (
            (0.7, partial(stain.stain_jitter, sigma=0.1)),
            (0.5, partial(intensity.colour_jitter, brightness=0.15, contrast=0.15, saturation=0.15, hue=0.03)),
            (0.2, partial(intensity.gaussian_blur, kernel=5, low=0.3, high=1.2)),
            (0.2, partial(intensity.gaussian_noise, sd=0.02)),
        ),
    ),
}
OPTIONS: dict[str, Callable[[Recipe], Recipe]] = {
    "geometry": lambda recipe: recipe._replace(turns=True),
    "stain": lambda recipe: recipe._replace(steps=((0.5, stain.stain_jitter), *recipe.steps)),
    "erasing": lambda recipe: recipe._replace(steps=(*recipe.steps, (0.5, intensity.random_erasing))),
}


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`: one of `RECIPES`, alone or with any of `OPTIONS`, as in `report+geometry+stain`.

    Raises:
        ConfigError: there is none; the message lists the known ones.
    """
    base, *options = name.split("+")
    if base not in RECIPES or not OPTIONS.keys() >= set(options):
        raise ConfigError(
            f"unknown augmentation recipe {name!r}; known are {', '.join(RECIPES)}, each also with "
            f"+{', +'.join(OPTIONS)}, as in report+geometry"
        )
    recipe = RECIPES[base]
    for option in dict.fromkeys(options):  # each once
        recipe = OPTIONS[option](recipe)
    return recipe


def augment(recipe: str, image: Tensor, layers: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Apply a recipe to an image and its truth.

    Args:
        recipe: a name that `get_recipe` knows.
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
