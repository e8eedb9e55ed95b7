"""An image's pixels for measurements and pictures, whatever is damaged in it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io import ImageSource
from everycell.plot import brighten

_SMALLEST_PX = 128


@dataclass
class ReadablePixels:
    """Pixels of a source, black where they are damaged.

    Attributes:
        source: the image.
        limits: grey levels for `brighten`; None leaves pixels as they are.
        damaged: windows (x0, y0, x1, y1; px) that were met so far and are black.
    """

    source: ImageSource
    limits: tuple[float, float] | None = None
    damaged: set[tuple[int, int, int, int]] = field(default_factory=set)

    def brightened(self, limits: tuple[float, float]) -> ReadablePixels:
        """The same for pictures: dim images brightened; `damaged` is shared."""
        return replace(self, limits=limits)

    def read(self, window: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Pixels of `window` (x0, y0, x1, y1; px), RGB, uint8 [h, w, 3]."""
        pixels = self._read(*window)
        return pixels if self.limits is None else brighten(pixels, self.limits)

    def _read(self, x0: int, y0: int, x1: int, y1: int) -> NDArray[np.uint8]:
        try:
            return self.source.read((x0, y0, x1, y1))
        except DataError:
            width, height = x1 - x0, y1 - y0
            if max(width, height) <= _SMALLEST_PX:
                self.damaged.add((x0, y0, x1, y1))
                return np.zeros((height, width, 3), np.uint8)
        # The damaged piece is found by halving.
        if width > height:
            x = (x0 + x1) // 2
            return np.concatenate([self._read(x0, y0, x, y1), self._read(x, y0, x1, y1)], axis=1)
        y = (y0 + y1) // 2
        return np.concatenate([self._read(x0, y0, x1, y), self._read(x0, y, x1, y1)])
