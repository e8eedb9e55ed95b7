"""Make dim images visible."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DIM = 128  # an image whose 99.8th percentile is darker than this is hard to see


def brighten(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch the contrast of a dim image for display; any other image comes back as it is.

    Dim is an image whose 99.8th percentile lies under half of the range, as in most fluorescence.

    Args:
        pixels: uint8 [H, W, 3], RGB.
    """
    # Imported here: transforms bring in torch, which other pictures, and figures, can do without.
    from everycell.transforms import contrast_range, stretch

    limits = contrast_range(pixels)
    return pixels if limits[1] >= _DIM else np.round(stretch(pixels, limits) * 255).astype(np.uint8)
