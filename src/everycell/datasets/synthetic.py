"""Drawn cells with exact truth, for tests and demonstrations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from everycell.structures import Image, Sample

_TISSUE = np.array([226, 190, 214], np.float32)  # eosin pink
_NUCLEUS = np.array([96, 62, 138], np.float32)  # haematoxylin violet
_ATTEMPTS_PER_CELL = 30


def synthetic_sample(
    rng: np.random.Generator,
    size: tuple[int, int] = (128, 128),
    n_cells: int = 20,
    *,
    diameter_px: float = 16.0,
    n_classes: int = 1,
    tissue: bool = False,
    name: str = "synthetic",
) -> Sample:
    """Draw ellipses, about half of them touching another, with shades, texture, blur and noise.

    No two cells share a pixel and each is in one piece. Classes differ in shape and shade: class 1 is round and
    bright (dark in tissue), the last one elongated and faint.

    Args:
        rng: the only source of randomness.
        size: (height, width), px.
        n_cells: how many are tried; fewer are drawn when the image is full.
        diameter_px: mean diameter.
        n_classes: classes 1 … n_classes, drawn evenly.
        tissue: violet nuclei on pink as in H&E, instead of bright ones on black.
        name: of the sample.
    """
    labels = np.zeros(size, np.int32)
    shades = [0.0]
    centres: list[tuple[float, float]] = []
    class_ids: list[int] = []
    for _ in range(n_cells):
        class_id = int(rng.integers(1, n_classes + 1))
        fade = (class_id - 1) / max(n_classes - 1, 1)
        for _ in range(_ATTEMPTS_PER_CELL):
            centre = _centre(rng, size, centres, diameter_px)
            if _draw(rng, labels, centre, diameter_px, elongation=1 + fade, value=len(centres) + 1):
                centres.append(centre)
                class_ids.append(class_id)
                shades.append(rng.uniform(0.75, 1.0) * (1 - 0.55 * fade))
                break
    pixels = _render(rng, np.array(shades, np.float32)[labels], tissue=tissue)
    return Sample(name, Image(pixels), labels[None], np.array(class_ids, np.int64))


def _centre(
    rng: np.random.Generator, size: tuple[int, int], centres: list[tuple[float, float]], diameter_px: float
) -> tuple[float, float]:
    """A free place, or one beside a cell that is there."""
    if centres and rng.random() < 0.5:
        y, x = centres[int(rng.integers(len(centres)))]
        angle = rng.uniform(0, 2 * np.pi)
        return y + diameter_px * np.sin(angle), x + diameter_px * np.cos(angle)
    return rng.uniform(0, size[0]), rng.uniform(0, size[1])


def _draw(
    rng: np.random.Generator,
    labels: NDArray[np.int32],
    centre: tuple[float, float],
    diameter_px: float,
    *,
    elongation: float,
    value: int,
) -> bool:
    """Write one ellipse into free pixels of `labels`; False, and nothing written, when too little of it is free."""
    radius = diameter_px / 2 * rng.uniform(0.8, 1.2)
    major, minor = radius * np.sqrt(elongation), radius / np.sqrt(elongation) * rng.uniform(0.85, 1.0)
    angle = rng.uniform(0, np.pi)
    reach = int(np.ceil(major)) + 1
    y0, x0 = (max(0, int(c) - reach) for c in centre)
    window = labels[y0 : max(0, int(centre[0]) + reach + 1), x0 : max(0, int(centre[1]) + reach + 1)]
    if not window.size:
        return False
    y, x = np.ogrid[: window.shape[0], : window.shape[1]]
    dy, dx = y + y0 - centre[0], x + x0 - centre[1]
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    ellipse = (along / major) ** 2 + (across / minor) ** 2 <= 1
    free = ellipse & (window == 0)
    if free.sum() < max(8, 0.7 * np.pi * major * minor) or ndimage.label(free)[1] != 1:
        return False
    window[free] = value
    return True


def _render(rng: np.random.Generator, strength: NDArray[np.float32], *, tissue: bool) -> NDArray[np.uint8]:
    """Stain strength, float32 [H, W] in [0, 1], to uint8 RGB."""
    shape = strength.shape
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5)
    background = ndimage.gaussian_filter(rng.standard_normal(shape), 6)
    stain = ndimage.gaussian_filter(strength * (1 + 0.5 * texture), 0.7).clip(0, 1)[..., None]
    noise = rng.standard_normal(shape)[..., None]
    if tissue:
        rgb = (_TISSUE + 120 * background[..., None]) * (1 - stain) + _NUCLEUS * stain + 4 * noise
    else:
        rgb = np.repeat(18 + 40 * background[..., None] + 190 * stain + 5 * noise, 3, axis=2)
    pixels: NDArray[np.uint8] = rgb.clip(0, 255).astype(np.uint8)
    return pixels
