"""Stored values → 8-bit RGB: which channels, and which range of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io.stored import Level, StoredImage, Window

DARK_PERCENTILE, BRIGHT_PERCENTILE = 1.0, 99.8

Limits = tuple[tuple[float, float], ...]
"""For each channel the values that become 0 and 255; a channel without a range becomes 0."""


class RgbRule:
    """How the values of one image become red, green and blue.

    Attributes:
        needs_limits: the values have to be stretched to 8 bits.
    """

    def __init__(self, stored: StoredImage, channels: Sequence[int] | None) -> None:
        """Decide it.

        Args:
            stored: the image.
            channels: as in `everycell.io.read_image`.

        Raises:
            DataError: the image is a stack, its channels must be chosen, or its values are no numbers.
        """
        dtype = stored.levels[0].dtype
        if not all(stored.levels[0].shape):
            raise DataError(f"{stored.name} has no pixels")
        if dtype.kind not in "buif":
            raise DataError(f"{stored.name} has values of type {dtype}; expected integers or real numbers")
        self._stored = stored
        self._channels = _choose(stored, channels)
        self._is_joint = stored.is_color and channels is None
        self.needs_limits = stored.palette is None and dtype not in (np.uint8, np.bool_)

    def read(self, level: Level, window: Window) -> NDArray[Any]:
        """Values [h, w, 1 … 3] that become red, green and blue; `window` in px of the level.

        Raises:
            DataError: they are damaged, or some are NaN or infinite.
        """
        if self._stored.palette is not None:
            indexes = level.read(window, [0])[..., 0]
            return _apply_palette(indexes, self._stored.palette)[..., self._channels]
        values = level.read(window, self._channels)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise DataError(f"{self._stored.name} has NaN pixels or infinite ones; replace them, e.g. by 0")
        return ~values if self._stored.white_is_zero and values.dtype.kind in "bu" else values

    def limits(self, sample: NDArray[Any], least: NDArray[Any], largest: NDArray[Any]) -> Limits:
        """The range of an image: percentiles 1 and 99.8, or where these agree the extremes.

        RGB colours have one range together, so that hue stays; stains have one each.

        Args:
            sample: values [n, C] of `read`.
            least: of each channel, [C], over more values than the sample.
            largest: the same.
        """
        if self._is_joint:
            return tuple([_range(sample, least.min(), largest.max())] * sample.shape[1])
        return tuple(_range(sample[:, i], least[i], largest[i]) for i in range(sample.shape[1]))

    def to_rgb(self, values: NDArray[Any], limits: Limits | None) -> NDArray[np.uint8]:
        """Values [h, w, 1 … 3] of `read` as uint8 [h, w, 3]; `limits` where they are needed."""
        if limits is not None:
            pixels = np.stack([_stretch(values[..., i], *limits[i]) for i in range(values.shape[2])], axis=2)
        else:
            pixels = values * np.uint8(255) if values.dtype == np.bool_ else values
        if pixels.shape[2] == 1:
            pixels = pixels.repeat(3, axis=2)
        elif pixels.shape[2] == 2:
            pixels = np.concatenate([pixels, np.zeros_like(pixels[..., :1])], axis=2)
        return np.require(pixels, np.uint8, ["C", "W"])


def _choose(stored: StoredImage, channels: Sequence[int] | None) -> list[int]:
    """Numbers of the channels to read, from 0."""
    n = stored.n_channels if stored.palette is None else 3
    if channels is not None:
        if not 1 <= len(channels) <= 3 or not all(1 <= c <= n for c in channels):
            raise DataError(f"{stored.name}: expected one to three channels between 1 and {n}, got {list(channels)}")
        return [c - 1 for c in channels]
    if stored.unknown_axis:
        height, width = stored.size
        raise DataError(
            f"{stored.name} is a stack of {n} planes of {height} × {width} px on an unnamed axis; "
            f"if they are channels choose some with --channels (1 to {n}), else export one plane"
        )
    if n not in (1, 3) and not stored.is_color:
        raise DataError(f"{stored.name} has {n} channels; choose up to three of them with --channels (1 to {n})")
    return list(range(min(n, 3)))


def _apply_palette(indexes: NDArray[Any], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    full = np.zeros((max(len(palette), int(indexes.max(initial=0)) + 1), 3), np.uint8)
    full[: len(palette)] = palette
    rgb: NDArray[np.uint8] = full[indexes]
    return rgb


def _range(sample: NDArray[Any], least: float, largest: float) -> tuple[float, float]:
    dark, bright = np.percentile(sample, (DARK_PERCENTILE, BRIGHT_PERCENTILE))
    return (float(dark), float(bright)) if dark < bright else (float(least), float(largest))


def _stretch(values: NDArray[Any], dark: float, bright: float) -> NDArray[np.uint8]:
    if bright <= dark:
        return np.zeros(values.shape, np.uint8)
    scaled = (values.astype(np.float64) - dark) * (255 / (bright - dark))
    rounded: NDArray[np.uint8] = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return rounded
