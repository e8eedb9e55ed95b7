"""The overlay of an image that fits into memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from everycell.files import atomic_write
from everycell.formats import PixelReader
from everycell.formats.stream import AtomicWriter
from everycell.plot import overlay, save_png
from everycell.predict.found import join_instances
from everycell.structures import Instances

if TYPE_CHECKING:
    import pandas as pd


class OverlayPngWriter(AtomicWriter):
    """Writes the image with each cell's outline in its class's colour, enlarged where it is small, as PNG."""

    def __init__(self, path: Path, source: PixelReader, image_size: tuple[int, int]) -> None:
        """Begin the file `path`; `source` is read whole when the writer is closed, `image_size` is (height, width)."""
        super().__init__(atomic_write(path))
        self._source, self._batches = source, [Instances.empty(image_size)]

    def _write(self, batch: Instances, table: pd.DataFrame | None) -> None:
        self._batches.append(batch)

    def _finish(self) -> None:
        cells = join_instances(self._batches)
        height, width = cells.image_size
        save_png(overlay(self._source.read((0, 0, width, height)), cells), self._temporary)
