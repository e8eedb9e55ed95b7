"""Cells set aside on disk until all are known: what painting needs, an eighth of a byte for each mask pixel."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from everycell.formats.stream import AtomicWriter
from everycell.structures import Instances

if TYPE_CHECKING:
    import pandas as pd

Window = tuple[int, int, int, int]
"""x0, y0, x1, y1; px, half-open."""


class CellSpool:
    """Masks of one image's cells in a file; in memory stay 36 bytes for each cell.

    Cells keep the order in which they are added: cell `i` has value `i + 1` in what `paint` makes.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Set cells aside in `file`, open for reading and writing, empty."""
        self._file = file
        self._end = 0
        self._parts: list[tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]] = []
        self._joined = self._join()

    def __len__(self) -> int:
        return sum(len(boxes) for boxes, *_ in self._parts)

    def add(self, batch: Instances) -> None:
        """Set the cells of `batch` aside."""
        packed = [np.packbits(bits).tobytes() for _, _, bits in batch.masks]
        ends = self._end + np.cumsum([len(bits) for bits in packed], dtype=np.int64)
        starts = np.append(self._end, ends[:-1])[: len(packed)]
        self._file.seek(self._end)
        self._file.write(b"".join(packed))
        self._parts.append((batch.masks.boxes, batch.scores, batch.class_ids, starts))
        self._end = int(ends[-1]) if len(ends) else self._end

    def finish(self) -> None:
        """All cells are there; from now on they can be read."""
        self._file.flush()
        self._joined = self._join()

    def _join(self) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Boxes, rank by score (the higher lies on top, of equals the later), class and place in the file."""
        boxes = np.concatenate([np.zeros((0, 4), np.int32), *(part[0] for part in self._parts)])
        scores, class_ids, starts = (
            np.concatenate([np.zeros(0, dtype), *(part[i] for part in self._parts)])
            for i, dtype in ((1, np.float32), (2, np.int64), (3, np.int64))
        )
        ranks = np.empty(len(boxes), np.int64)
        ranks[np.argsort(scores, kind="stable")] = np.arange(len(boxes))
        return boxes, ranks, class_ids, starts

    def over(self, window: Window) -> NDArray[np.int64]:
        """Cells whose own windows share a pixel with `window`, those that lie on top last."""
        boxes, ranks, *_ = self._joined
        x0, y0, x1, y1 = window
        # Rows first: of a tall image most cells are out at once.
        cells = np.flatnonzero((boxes[:, 1] < y1) & (boxes[:, 3] > y0))
        near = boxes[cells]
        cells = cells[(near[:, 0] < x1) & (near[:, 2] > x0)]
        return cells[np.argsort(ranks[cells])]

    def mask(self, cell: int) -> tuple[tuple[int, int], NDArray[np.bool_]]:
        """(x, y) of the window's top left pixel and the bits, bool [h, w], of one cell."""
        boxes, _, _, starts = self._joined
        x0, y0, x1, y1 = boxes[cell].tolist()
        n = (y1 - y0) * (x1 - x0)
        self._file.seek(int(starts[cell]))
        bits = np.unpackbits(np.frombuffer(self._file.read((n + 7) // 8), np.uint8), count=n)
        return (x0, y0), bits.view(np.bool_).reshape(y1 - y0, x1 - x0)

    def class_id(self, cell: int) -> int:
        """Class of one cell, 1 … K."""
        return int(self._joined[2][cell])

    def paint(self, window: Window, step: int = 1) -> NDArray[np.uint32]:
        """The label image, as `Instances.to_labels` makes it, in `window`, of which every `step`-th pixel is taken.

        Args:
            window: its x0 and y0 are multiples of `step`.
            step: 1, or more for a smaller picture.

        Returns:
            uint32 [⌈height / step⌉, ⌈width / step⌉].
        """
        left, top, right, bottom = window
        assert left % step == top % step == 0
        labels = np.zeros((-(-(bottom - top) // step), -(-(right - left) // step)), np.uint32)
        for cell in self.over(window).tolist():
            (x0, y0), bits = self.mask(cell)
            # The first pixels of the grid inside both windows.
            x, y = (-(-max(near, far) // step) * step for near, far in ((x0, left), (y0, top)))
            part = bits[y - y0 : bottom - y0 : step, x - x0 : right - x0 : step]
            rows, columns = part.shape
            at = (y - top) // step, (x - left) // step
            labels[at[0] : at[0] + rows, at[1] : at[1] + columns][part] = cell + 1
        return labels

    @property
    def dtype(self) -> np.dtype[Any]:
        """What a label image needs: uint16, or uint32 for more cells than that can number."""
        return np.dtype(np.uint16 if len(self) <= np.iinfo(np.uint16).max else np.uint32)

    def tile(self, size: tuple[int, int], level: int, window: Window) -> NDArray[Any]:
        """Part of a pyramid of label images, whose level `k` takes every 2^k-th pixel.

        Args:
            size: (height, width) of the full resolution.
            level: 0 is the full resolution.
            window: px of that level.

        Returns:
            `dtype` [h, w].
        """
        x0, y0, x1, y1 = (side << level for side in window)
        return self.paint((x0, y0, min(x1, size[1]), min(y1, size[0])), 1 << level).astype(self.dtype)


class SpoolingWriter(AtomicWriter):
    """A writer that begins when all cells are known."""

    def __init__(self, output: AbstractContextManager[Path], folder: Path) -> None:
        """Begin `output`, with a nameless file in `folder` for the cells."""
        super().__init__(output)
        with self._or_give_up():
            file = self._stack.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
            self._spool = CellSpool(cast(BinaryIO, file))

    def _write(self, batch: Instances, table: pd.DataFrame | None) -> None:
        self._spool.add(batch)

    def _finish(self) -> None:
        self._spool.finish()
        self._draw()

    @abstractmethod
    def _draw(self) -> None:
        """Write the output from the spool."""
