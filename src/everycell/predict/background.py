"""Which windows of a slide show nothing but glass or black."""

from __future__ import annotations

from everycell.io import ImageSource
from everycell.predict.tiling import Window

BACKGROUND_SHARE = 0.06
"""Of an image's contrast range: what differs by less is background."""

_COARSE = 0.25


def is_background(source: ImageSource, window: Window, levels: float) -> bool:
    """Whether no channel of a window, seen at a quarter of its size, spans `levels` grey levels (0 … 255) or more."""
    view = source.read_at(window, _COARSE)
    spans = view.max(axis=(0, 1)).astype(int) - view.min(axis=(0, 1))
    return bool(spans.max() < levels)
