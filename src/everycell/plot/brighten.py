"""Make dim images visible."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DIM = 128  # an image whose 99.8th percentile is darker than this is hard to see


def brighten(pixels: NDArray[np.uint8], limits: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Stretch the contrast of a dim image for display; any other image comes back as it is.

    Dim is an image whose 99.8th percentile lies under half of the range, as in most fluorescence.

    Args:
        pixels: uint8 [H, W, 3], RGB.
        limits: percentiles 1 and 99.8 of the whole image, where `pixels` are a part of it.
    """
    # Imported here: transforms bring in torch, which other pictures, and figures, can do without.
    from everycell.transforms import contrast_range, stretch

    limits = contrast_range(pixels) if limits is None else limits
    if limits[1] >= _DIM:
        return pixels
    table: NDArray[np.uint8] = np.round(stretch(np.arange(256, dtype=np.uint8), limits) * 255).astype(np.uint8)
    return table[pixels]
