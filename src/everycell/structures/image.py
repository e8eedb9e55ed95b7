"""`Image`: pixels ready for a model, with their physical size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Image:
    """One image in memory.

    Attributes:
        pixels: uint8 [H, W, 3], RGB.
        mpp: micrometres per pixel, None when the file does not say it believably.
    """

    pixels: NDArray[np.uint8]
    mpp: float | None = None

    def __post_init__(self) -> None:
        assert self.pixels.dtype == np.uint8 and self.pixels.ndim == 3 and self.pixels.shape[2] == 3

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), px."""
        return self.pixels.shape[0], self.pixels.shape[1]
