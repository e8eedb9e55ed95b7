"""Colours of classes and of single cells, the same in pictures and in files."""

import numpy as np
from numpy.typing import NDArray

CLASS_COLORS: tuple[tuple[int, int, int], ...] = (
    (20, 210, 60),  # green
    (0, 190, 255),  # cyan
    (255, 200, 0),  # amber
    (255, 60, 30),  # vermilion
    (50, 80, 255),  # blue
    (255, 255, 255),  # white
    (230, 60, 230),  # magenta
    (140, 90, 20),  # brown
    (0, 135, 120),  # teal
    (190, 40, 95),  # crimson
    (110, 130, 0),  # olive
    (170, 255, 220),  # mint
)
"""RGB, 0 … 255, of classes 1, 2, …; chosen to stand out on dark fluorescence and on pink tissue alike."""


def class_color(class_id: int) -> tuple[int, int, int]:
    """RGB of class `class_id` (1 … K); the colours repeat after the last one."""
    return CLASS_COLORS[(class_id - 1) % len(CLASS_COLORS)]


def instance_colors(n: int) -> NDArray[np.uint8]:
    """N bright RGB colours in which neighbours in the list differ clearly, uint8 [N, 3].

    Hues go round the circle by the golden angle, so any few consecutive ones lie far apart.
    """
    i = np.arange(n)
    hue = i * ((np.sqrt(5) - 1) / 2) % 1
    saturation = np.choose(i % 3, [0.9, 0.6, 0.75])
    distance = np.abs((hue[:, None] * 6 + np.array([0, 4, 2])) % 6 - 3)
    pure = np.clip(distance - 1, 0, 1)
    colors: NDArray[np.uint8] = np.round(255 * (1 - saturation[:, None] * (1 - pure))).astype(np.uint8)
    return colors
