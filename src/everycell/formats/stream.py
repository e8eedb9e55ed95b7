"""Writers that take the cells of one image batch by batch, so that they need not be in memory all at once."""

from __future__ import annotations

import gzip
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self, cast

from everycell.structures import Instances

if TYPE_CHECKING:
    import pandas as pd


class StreamWriter(Protocol):
    """Takes the cells of one image in batches.

    Cells are numbered from 1 in the order in which they are written, in all outputs alike. The output appears under
    its name when `close` has ended well; after an exception nothing is left behind.
    """

    def write(self, batch: Instances, table: pd.DataFrame | None = None) -> None:
        """Take a batch.

        Args:
            batch: any number of cells, in coordinates of the full image.
            table: their measurements (see `measure`), for the writers that use them.

        Raises:
            OutputError: it could not be written; the writer has given up.
        """
        ...

    def close(self) -> None:
        """Finish the output and give it its name.

        Raises:
            OutputError: it could not be written.
        """
        ...

    def abort(self) -> None:
        """Give up and remove what was written; nothing after `close`."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class AtomicWriter(ABC):
    """What all `StreamWriter`s share: one output under a temporary name, which goes away when anything fails."""

    def __init__(self, output: AbstractContextManager[Path]) -> None:
        """Begin `output`, one of `atomic_write` and `atomic_folder`."""
        self.n_cells = 0
        self._is_open = True
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(output)

    def write(self, batch: Instances, table: pd.DataFrame | None = None) -> None:
        """Take a batch; see `StreamWriter.write`."""
        assert self._is_open and (table is None or len(table) == len(batch))
        with self._or_give_up():
            self._write(batch, table)
        self.n_cells += len(batch)

    def close(self) -> None:
        """Finish the output and give it its name; see `StreamWriter.close`."""
        assert self._is_open
        with self._or_give_up():
            self._finish()
        self._is_open = False
        self._stack.close()

    def abort(self) -> None:
        """Give up and remove what was written; nothing after `close`."""
        self._give_up(GeneratorExit())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    @abstractmethod
    def _write(self, batch: Instances, table: pd.DataFrame | None) -> None: ...

    @abstractmethod
    def _finish(self) -> None: ...

    def _open_file(self, *, compress: bool = False) -> BinaryIO:
        """The temporary file, open for writing until the writer is done; `compress` by gzip."""
        with self._or_give_up():
            file = self._stack.enter_context(self._temporary.open("wb"))
            if not compress:
                return file
            # Neither a name nor a time inside: the same cells give the same bytes.
            packed = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
            return cast(BinaryIO, self._stack.enter_context(packed))

    @contextmanager
    def _or_give_up(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._give_up(error)
            raise

    def _give_up(self, error: BaseException) -> None:
        """Remove what was written; raises an OutputError in place of an OSError."""
        self._is_open = False
        self._stack.__exit__(type(error), error, error.__traceback__)
