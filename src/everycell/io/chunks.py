"""Levels that are stored in chunks: strips and tiles of a TIFF, chunks of a Zarr array."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everycell.io.stored import Window, as_index

CACHE_BYTES = 128 * 2**20


class ChunkCache:
    """The decoded chunks that were used last, at most 128 MiB of them or a single larger one.

    Neighbouring windows share chunks, and a file whose only chunk is the whole image is decoded once. Several threads
    may use it; two that miss the same chunk at once both decode it.
    """

    def __init__(self) -> None:
        self._chunks: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The chunk `key`, from `load()` where it is not at hand."""
        with self._lock:
            if key in self._chunks:
                self._chunks.move_to_end(key)
                return self._chunks[key]
        chunk = load()
        with self._lock:
            if key not in self._chunks:
                self._chunks[key] = chunk
                self._bytes += chunk.nbytes
            while self._bytes > CACHE_BYTES and len(self._chunks) > 1:
                self._bytes -= self._chunks.popitem(last=False)[1].nbytes
        return chunk


@dataclass(frozen=True)
class ChunkedLevel:
    """A level of which only the chunks that a window touches are decoded.

    Attributes:
        shape: (height, width, channels).
        dtype: of the values, in the machine's byte order.
        chunk: (height, width, channels) of one chunk; channel `c` lies in plane `c // chunk[2]`.
        load: (plane, row, column) of a chunk → values [h, w, c]; at the image's border they may be cut or padded.
        cache: shared by the levels of an image.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    chunk: tuple[int, int, int]
    load: Callable[[int, int, int], NDArray[Any]]
    cache: ChunkCache

    def read(self, window: Window, channels: Sequence[int]) -> NDArray[Any]:
        """As `Level.read`."""
        x0, y0, x1, y1 = window
        values = np.empty((y1 - y0, x1 - x0, len(channels)), self.dtype)
        height, width, depth = self.chunk
        for plane in sorted({channel // depth for channel in channels}):
            here = [i for i, channel in enumerate(channels) if channel // depth == plane]
            target, samples = as_index(here), as_index([channels[i] % depth for i in here])
            for row in range(y0 // height, -(-y1 // height)):
                top, bottom = max(y0, row * height), min(y1, (row + 1) * height)
                for column in range(x0 // width, -(-x1 // width)):
                    left, right = max(x0, column * width), min(x1, (column + 1) * width)
                    chunk = self._chunk(plane, row, column)
                    values[top - y0 : bottom - y0, left - x0 : right - x0, target] = chunk[
                        top - row * height : bottom - row * height, left - column * width : right - column * width
                    ][..., samples]
        return values

    def _chunk(self, plane: int, row: int, column: int) -> NDArray[Any]:
        return self.cache.get((id(self), plane, row, column), lambda: self.load(plane, row, column))
