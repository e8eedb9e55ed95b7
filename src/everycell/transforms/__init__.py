"""Augmentation and normalisation, each with its own random generator."""

from everycell.transforms.geometric import random_window as random_window
from everycell.transforms.geometric import zoom as zoom
from everycell.transforms.geometric import zoom_image as zoom_image
from everycell.transforms.normalize import contrast_range as contrast_range
from everycell.transforms.normalize import input_range as input_range
from everycell.transforms.normalize import stretch as stretch
from everycell.transforms.recipes import OPTIONS as OPTIONS
from everycell.transforms.recipes import RECIPES as RECIPES
from everycell.transforms.recipes import augment as augment
from everycell.transforms.recipes import get_recipe as get_recipe

__all__ = [
    "OPTIONS",
    "RECIPES",
    "augment",
    "contrast_range",
    "get_recipe",
    "input_range",
    "random_window",
    "stretch",
    "zoom",
    "zoom_image",
]
