"""Memory that was freed goes back to the operating system.

A forward pass frees hundreds of MB of feature maps in blocks that glibc keeps in the heap of the thread, where other
sizes leave holes: memory then grows by a GB over some dozen tiles. Without glibc nothing here happens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

_LARGE_BLOCK_BYTES = 16 * 2**20
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # glibc's malloc.h
_HEAPS = 2


@cache
def keep_large_blocks_apart() -> None:
    """Take large blocks from the operating system one by one, never from a heap, and keep few heaps."""
    if option := _glibc("mallopt"):
        option(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        option(_M_ARENA_MAX, _HEAPS)


def return_freed_memory() -> None:
    """Give back what the heaps keep for later."""
    if trim := _glibc("malloc_trim"):
        trim(0)


@cache
def _glibc(name: str) -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return function
