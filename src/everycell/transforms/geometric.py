"""Geometry of an image and its label layers together: windows, zoom, flips and quarter turns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def zoom(image: Tensor, layers: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Resize by `factor`: the image bilinearly (with antialiasing when it shrinks), the layers to the nearest label.

    Args:
        image: float32 [3, H, W].
        layers: int32 [L, H, W].
        factor: new px per old px.
    """
    if factor == 1:
        return image, layers
    resized = zoom_image(image, factor)
    rows, columns = (
        ((torch.arange(n) + 0.5) * (old / n)).long() for n, old in zip(resized.shape[1:], layers.shape[1:], strict=True)
    )
    return resized, layers[:, rows[:, None], columns[None, :]]


def zoom_image(image: Tensor, factor: float) -> Tensor:
    """Resize an image alone, as `zoom` does."""
    if factor == 1:
        return image
    size = [max(1, round(side * factor)) for side in image.shape[1:]]
    return F.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=factor < 1)[0]


def dihedral(image: Tensor, layers: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """One of the eight flips and quarter turns of the square, each equally likely."""
    turn, flip = torch.randint(4, (), generator=generator).item(), torch.randint(2, (), generator=generator).item()
    if flip:
        image, layers = image.flip(-1), layers.flip(-1)
    return torch.rot90(image, int(turn), (-2, -1)), torch.rot90(layers, int(turn), (-2, -1))


def random_window(size: tuple[int, int], side_px: float, generator: Generator) -> tuple[slice, slice]:
    """A square window of `side_px` placed at random inside an image of `size` (height, width); smaller if that is."""
    slices = []
    for limit in size:
        extent = min(limit, max(1, round(side_px)))
        start = int(torch.randint(limit - extent + 1, (), generator=generator))
        slices.append(slice(start, start + extent))
    return slices[0], slices[1]
