"""Images as stored: raw values at one or more resolutions, read window by window."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from everycell.errors import DataError

Window = tuple[int, int, int, int]
"""(x0, y0, x1, y1), px; x1 and y1 are outside."""

MAX_VALUES = 3 * 2**30
"""Most values (height x width x channels) read at once; a larger image is an error, never an exhausted memory."""

_ROUNDING = 1.01  # the size of a level is rounded: up to 1 % coarser than needed still serves


class Level(Protocol):
    """One resolution of an image."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values, in the machine's byte order."""
        ...

    def read(self, window: Window, channels: Sequence[int]) -> NDArray[Any]:
        """Values [h, w, len(channels)] of a window inside the level, in px of the level; channels count from 0."""
        ...


@dataclass(frozen=True)
class ArrayLevel:
    """A level that is an array.

    Attributes:
        shape: (height, width, channels).
        dtype: of the values, in the machine's byte order.
        open: gives the array [H, W, C]. A memory map is opened anew for each window: the pages of a file that were
            read would otherwise stay in memory as long as the map does.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    open: Callable[[], NDArray[Any]]

    @classmethod
    def of(cls, open_array: Callable[[], NDArray[Any]]) -> ArrayLevel:
        """Level of the array [H, W, C] that `open_array` gives."""
        array = open_array()
        height, width, channels = array.shape
        return cls((height, width, channels), array.dtype.newbyteorder("="), open_array)

    def read(self, window: Window, channels: Sequence[int]) -> NDArray[Any]:
        """As `Level.read`."""
        x0, y0, x1, y1 = window
        values = self.open()[y0:y1, x0:x1, as_index(channels)]
        return np.array(values, self.dtype, copy=isinstance(values, np.memmap) or None)


@dataclass(frozen=True)
class StoredImage:
    """An image of which nothing was read yet.

    Attributes:
        name: what messages call it.
        levels: finest first, all with the same channels and type of values.
        is_color: the channels are RGB or RGBA samples of one picture, not separate stains.
        has_alpha: the second of two channels is the transparency of a gray picture, and means nothing.
        palette: uint8 [K, 3], RGB of each value when the values are indexes into it, else None.
        white_is_zero: larger values are darker.
        unknown_axis: the channels came from an unnamed axis, so they may be a z or time stack.
        mpp: micrometres per pixel of the finest level, None when the file does not say it believably.
        close: lets the file go.
    """

    name: str
    levels: tuple[Level, ...]
    is_color: bool = False
    has_alpha: bool = False
    palette: NDArray[np.uint8] | None = None
    white_is_zero: bool = False
    unknown_axis: bool = False
    mpp: float | None = None
    close: Callable[[], None] = lambda: None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) at full resolution, px."""
        return self.levels[0].shape[:2]

    @property
    def n_channels(self) -> int:
        """Of values that mean something."""
        return self.levels[0].shape[2] - self.has_alpha

    def downsample(self, level: int) -> tuple[float, float]:
        """Full-resolution px per px of a level, along y and x."""
        fine, coarse = self.levels[0].shape, self.levels[level].shape
        return _ratio(fine[0], coarse[0]), _ratio(fine[1], coarse[1])

    def level_for(self, factor: float) -> int:
        """Number of the coarsest level that still has `factor` px or more per full-resolution px."""
        fits = [i for i in range(len(self.levels)) if max(self.downsample(i)) * factor <= _ROUNDING]
        return max(fits, key=lambda i: max(self.downsample(i)), default=0)


def _ratio(fine: int, coarse: int) -> float:
    """A whole number where the sides differ from it by rounding alone."""
    whole = round(fine / coarse)
    return float(whole) if abs(fine - whole * coarse) < whole else fine / coarse


def from_array(open_array: Callable[[], NDArray[Any]], name: str) -> StoredImage:
    """The array [H, W] or [H, W, C] that `open_array` gives; three or four channels are taken for RGB and RGBA.

    Raises:
        DataError: it has another number of axes; `name` begins the message.
    """
    shape = open_array().shape
    if len(shape) not in (2, 3):
        raise DataError(f"{name}: expected an array [H, W] or [H, W, C], got shape {shape}; give one plane")
    level = ArrayLevel.of(lambda: np.atleast_3d(open_array()))
    return StoredImage(name, (level,), is_color=level.shape[2] in (3, 4))


def whole_window(size: Sequence[int]) -> Window:
    """The window that covers an image of `size` (height, width, …)."""
    return 0, 0, size[1], size[0]


def as_index(channels: Sequence[int]) -> slice | list[int]:
    """Channel numbers as a slice where they follow each other, which needs no copy."""
    first, last = channels[0], channels[-1]
    return slice(first, last + 1) if list(channels) == list(range(first, last + 1)) else list(channels)


def check_fits(shape: Sequence[int], name: str) -> None:
    """Refuse to read an array of this shape whole where it could exhaust the memory."""
    if math.prod(shape) > MAX_VALUES:
        size = " × ".join(str(n) for n in shape)
        raise DataError(f"{name} holds {size} values, more than the 3 · 2^30 read at once; export a region of it")
