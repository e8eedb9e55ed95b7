"""Lengths that are given in pixels or in micrometres."""

from __future__ import annotations

from everycell.errors import DataError


def length_px(px: float, um: float | None, mpp: float | None) -> float:
    """A length in pixels of an image.

    Args:
        px: the length in pixels, used where `um` is None.
        um: the length in µm.
        mpp: µm per pixel of the image, None when unknown.

    Raises:
        DataError: the length is given in µm for an image whose µm per pixel are unknown.
    """
    if um is None:
        return px
    if mpp is None:
        raise DataError(f"a length of {um} µm needs µm per pixel, got none for this image; give the length in pixels")
    return um / mpp
