"""Augmentation and normalisation, each with its own random generator."""

from everycell.transforms.geometric import random_window as random_window
from everycell.transforms.geometric import zoom as zoom
from everycell.transforms.normalize import contrast_range as contrast_range
from everycell.transforms.normalize import stretch as stretch
from everycell.transforms.recipes import RECIPES as RECIPES
from everycell.transforms.recipes import augment as augment
from everycell.transforms.recipes import get_recipe as get_recipe

__all__ = ["RECIPES", "augment", "contrast_range", "get_recipe", "random_window", "stretch", "zoom"]
