"""Predict an image of any size tile by tile, and put the cells together in bounded memory.

Tiles are examined by several threads, so that reading, network and post-processing overlap; their cells wait in a
`TileStore`. Stitching then goes down the image row of tiles by row of tiles. What comes out depends on the image, the
detector and the rules alone, never on which tile was finished first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import numpy as np
import shapely

from everycell.errors import DataError
from everycell.io import ImageSource
from everycell.predict.covered import drop_covered
from everycell.predict.detector import Detector, Rules, TileResult, examine
from everycell.predict.found import Found, join_instances
from everycell.predict.stitch import centroids, join_seams
from everycell.predict.store import MemoryStore, TileStore
from everycell.predict.sweep import Rows
from everycell.structures import Instances

_THREADS = 2  # the pixels of one tile are read while the network looks at another
_BATCH_CELLS = 4096


@dataclass
class Report:
    """What happened to the tiles of an image.

    Attributes:
        n_tiles: tiles that there are.
        n_kept: of these, finished by an earlier run.
        skipped_share: share of the tiles' cores that was left out as background, by area.
        split: limits that were reached → number of tiles that were predicted again in smaller ones for it.
        capped: limits that were reached in the smallest tiles, with their windows.
        failed: what went wrong in tiles that could not be read.
    """

    n_tiles: int
    n_kept: int = 0
    skipped_share: float = 0.0
    split: dict[str, int] = field(default_factory=dict)
    capped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def notes(self) -> tuple[str, ...]:
        """What a reader of the result must know, a line each."""
        lines = [
            f"{n} of {self.n_tiles} tiles reached the {cap} and were predicted again in smaller ones"
            for cap, n in sorted(self.split.items())
        ]
        if self.skipped_share:
            lines.append(f"{self.skipped_share:.1%} of the image was left out as background")
        if self.capped:
            lines.append(f"{_first_of(sorted(self.capped))}: cells may be missing there")
        return (*lines, self.lost) if self.lost else tuple(lines)

    @property
    def lost(self) -> str:
        """What to say about tiles that could not be read, the last of `notes`; "" when there are none."""
        n = f"{len(self.failed)} of {self.n_tiles} tiles could not be read and have no cells"
        return f"{n}: {_first_of(self.failed)}" if self.failed else ""

    def add(self, result: TileResult, share: float) -> None:
        """Count one tile, which makes up `share` of the image."""
        if result.split:
            self.split[result.split] = self.split.get(result.split, 0) + 1
        self.capped += result.capped
        self.skipped_share += share * result.skipped


def _first_of(lines: list[str]) -> str:
    return lines[0] if len(lines) == 1 else f"{lines[0]} and {len(lines) - 1} more"


class TiledPrediction:
    """The cells of one image, tile by tile: `run`, then `batches`.

    Attributes:
        report: what happened to the tiles; complete after `run`.
    """

    def __init__(
        self,
        source: ImageSource,
        detector: Detector,
        rules: Rules,
        *,
        store: TileStore | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Plan the tiles.

        Args:
            source: the image.
            detector: what finds cells in a window.
            rules: how the image is cut and put together.
            store: where cells wait; with a `FolderStore` a killed run goes on where it was. In memory when None.
            notes: what is already to be said about the result.
        """
        assert rules.tiling.size == source.size, (rules.tiling.size, source.size)
        self.source, self.detector, self.rules = source, detector, rules
        self.store = MemoryStore() if store is None else store
        self._notes = notes
        self.report = Report(len(rules.tiling.tiles))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the result must know, a line each."""
        return (*self._notes, *self.report.notes())

    def run(
        self,
        on_tile: Callable[[int, int], None] = lambda done, total: None,
        *,
        executor: Executor | None = None,
        in_flight: int = 2 * _THREADS,
    ) -> None:
        """Examine all tiles that the store does not hold.

        Args:
            on_tile: told the number of finished tiles and of all tiles.
            executor: where tiles are examined; a few threads of this process when None.
            in_flight: tiles that are given to the executor at a time.

        Raises:
            DataError: no tile could be read; where only some could not, `report` names them.
            OutputError: the store cannot be written. What is finished stays, and another `run` goes on from there.
        """
        for _ in self._finished_tiles(on_tile, executor, in_flight):
            pass

    def batches(self) -> Iterator[Instances]:
        """All cells, a few thousand at a time, each cell once, after `run`.

        They come in the order of the tiles that own them, row by row, and of one tile best score first: the same order
        in whatever order tiles were finished. Class names and µm/px are set, notes are left to `report`.
        """
        return self._batches(iter(()))

    def stream(
        self,
        on_tile: Callable[[int, int], None] = lambda done, total: None,
        *,
        executor: Executor | None = None,
        in_flight: int = 2 * _THREADS,
    ) -> Iterator[Instances]:
        """`run` and `batches` in one: cells come as soon as a row of tiles is done.

        Tiles are examined while the caller works on a batch. `report` is complete after the last one.
        """
        with closing(self._finished_tiles(on_tile, executor, in_flight)) as finished:
            yield from self._batches(finished)
            deque(finished, maxlen=0)

    def _finished_tiles(
        self, on_tile: Callable[[int, int], None], executor: Executor | None, in_flight: int
    ) -> Generator[int]:
        """Numbers of the tiles, each when it is finished."""
        numbers = self._wanted()
        self.report = Report(len(numbers))
        area = sum(self._core_px(number) for number in numbers)
        todo = []
        for number in numbers:
            result = self.store.get(number)
            if result is None:
                todo.append(number)
            else:
                self.report.n_kept += 1
                self.report.add(result, self._core_px(number) / area)
        on_tile(self.report.n_kept, len(numbers))
        yield from set(numbers) - set(todo)
        with ExitStack() as stack:
            if executor is None:
                executor = stack.enter_context(ThreadPoolExecutor(min(_THREADS, max(1, len(todo)))))
            examined = stack.enter_context(closing(self._examined(todo, executor, in_flight)))
            failed: dict[int, str] = {}
            for n_done, (number, outcome) in enumerate(examined, 1):
                if isinstance(outcome, DataError):
                    failed[number] = str(outcome)
                else:
                    self.store.put(number, outcome)
                    self.report.add(outcome, self._core_px(number) / area)
                on_tile(self.report.n_kept + n_done, len(numbers))
                yield number
        self.report.failed = [failed[number] for number in sorted(failed)]
        if numbers and len(failed) == len(numbers):
            raise DataError(self.report.failed[0])

    def _examined(
        self, todo: list[int], executor: Executor, in_flight: int
    ) -> Generator[tuple[int, TileResult | DataError]]:
        """What was found in each tile, or why it cannot be read, as they come."""
        work = partial(examine, self.source, self.detector, self.rules)
        waiting: dict[Future[TileResult], int] = {}
        queue = iter(todo)
        try:
            while True:
                for number in islice(queue, in_flight - len(waiting)):
                    waiting[executor.submit(work, self.rules.tiling.tiles[number])] = number
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    number = waiting.pop(future)
                    try:
                        outcome: TileResult | DataError = future.result()
                    except DataError as error:
                        outcome = error
                    yield number, outcome
        finally:
            for future in waiting:
                future.cancel()

    def _batches(self, finished: Iterator[int]) -> Iterator[Instances]:
        rows = join_seams(self._rows(finished))
        if self.rules.max_covered is not None:
            rows = drop_covered(rows, self.rules.max_covered)
        for found in self._in_order(rows):
            for first in range(0, len(found), _BATCH_CELLS):
                cells = found.cells.select(np.arange(first, min(first + _BATCH_CELLS, len(found))))
                yield replace(cells, mpp=self.source.mpp, class_names=self.detector.class_names, notes=())

    def cells(self) -> Instances:
        """All cells at once, in the order of `batches`, with `notes`."""
        empty = Instances.empty(self.source.size, self.source.mpp, self.detector.class_names)
        return replace(join_instances([empty, *self.batches()]), notes=self.notes)

    def _wanted(self) -> list[int]:
        """Numbers of the tiles that may hold cells which are asked for."""
        tiles = self.rules.tiling.tiles
        if self.rules.within is None:
            return list(range(len(tiles)))
        windows = shapely.box(*np.array([tile.window for tile in tiles]).T)
        shapely.prepare(self.rules.within)
        return np.flatnonzero(shapely.intersects(self.rules.within, windows)).tolist()

    def _core_px(self, number: int) -> int:
        x0, y0, x1, y1 = self.rules.tiling.tiles[number].core
        return (x1 - x0) * (y1 - y0)

    def _rows(self, finished: Iterator[int]) -> Iterator[tuple[Found, float]]:
        """What each row of tiles found, with the y above which the next rows see nothing; waits for its tiles."""
        tiling, n_found, open_tiles = self.rules.tiling, 0, set(self._wanted())
        n_columns, wanted = len(tiling.columns), set(self._wanted())
        for row in range(len(tiling.rows)):
            numbers = [n for n in range(row * n_columns, (row + 1) * n_columns) if n in wanted]
            while not open_tiles.isdisjoint(numbers) and (number := next(finished, None)) is not None:
                open_tiles.remove(number)
            results = [result for n in numbers if (result := self.store.get(n)) is not None]
            found = Found.join([self._nothing(), *(result.found for result in results)]).numbered(n_found)
            n_found += len(found)
            below = (row + 1) * n_columns
            yield found, tiling.tiles[below].window[1] if below < len(tiling.tiles) else math.inf

    def _in_order(self, rows: Rows) -> Iterator[Found]:
        """Finished cells of one row of tiles after the other."""
        tiling, waiting, row = self.rules.tiling, self._nothing(), 0
        n_columns = len(tiling.columns)
        for cells, horizon in rows:
            waiting = Found.join([waiting, cells])
            owners = tiling.owners(centroids(waiting.cells.masks))
            while row < len(tiling.rows) and tiling.rows[row][1] <= horizon:
                mine = owners // n_columns == row
                found, owner = waiting.select(mine), owners[mine]
                yield self._within(found.select(np.lexsort((found.ranks(), owner))))
                waiting, owners, row = waiting.select(~mine), owners[~mine], row + 1
        assert not len(waiting)

    def _within(self, found: Found) -> Found:
        if self.rules.within is None:
            return found
        return found.select(shapely.intersects_xy(self.rules.within, *centroids(found.cells.masks).T))

    def _nothing(self) -> Found:
        return Found.none(Instances.empty(self.source.size))
