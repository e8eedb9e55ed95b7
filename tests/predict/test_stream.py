"""Cells that come while later tiles are still to be examined."""

from concurrent.futures import Executor, Future

import numpy as np
import pytest
from tile_stubs import LabelDetector, SlowDetector, random_cells

from everycell.errors import DataError, OutputError
from everycell.io import open_source
from everycell.predict.detector import Rules
from everycell.predict.engine import TiledPrediction
from everycell.predict.store import MemoryStore
from everycell.predict.tiling import Tiling

LABELS = random_cells(np.random.default_rng(2), (400, 120), 150, 30)
RULES = Rules(Tiling(LABELS.shape, 50, 8), max_covered=0.5)


class AtOnce(Executor):
    """Examines a tile when it is submitted."""

    def __init__(self):
        self.n_tiles = 0

    def submit(self, function, /, *args, **kwargs):
        self.n_tiles += 1
        future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except DataError as error:
            future.set_exception(error)
        return future


def prediction(detector=None, store=None) -> TiledPrediction:
    source = open_source(np.zeros(LABELS.shape, np.uint8))
    return TiledPrediction(source, detector or LabelDetector(LABELS), RULES, store=store)


def arrays(batches) -> list[list[np.ndarray]]:
    return [[b.boxes, b.scores, b.class_ids, b.masks.boxes, b.masks.bits] for b in batches]


def assert_same(found, expected):
    for some, others in zip(found, expected, strict=True):
        for one, other in zip(some, others, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def expected():
    whole = prediction()
    whole.run()
    return arrays(whole.batches())


def test_the_same_batches_as_after_a_run(expected):
    seen = []
    assert_same(arrays(prediction().stream(lambda done, total: seen.append((done, total)))), expected)
    n = len(RULES.tiling.tiles)
    assert seen == [(done, n) for done in range(n + 1)]
    assert sum(len(scores) for _, scores, *_ in expected) > 100


def test_a_row_comes_before_the_tiles_below_are_examined():
    executor, tiles = AtOnce(), prediction()
    n_columns, n = len(RULES.tiling.columns), len(RULES.tiling.tiles)
    stream = tiles.stream(executor=executor, in_flight=1)
    first = next(stream)
    # A row is settled when the row below cannot change it any more.
    assert n_columns < executor.n_tiles <= 4 * n_columns < n
    assert first.masks.boxes[:, 1].min() < RULES.tiling.rows[0][1]
    stream.close()
    assert executor.n_tiles <= 4 * n_columns
    assert tiles.report.n_tiles == n


def test_a_stopped_stream_goes_on(expected):
    store, first, second = MemoryStore(), AtOnce(), AtOnce()
    stopped = prediction(store=store).stream(executor=first, in_flight=1)
    next(stopped)
    stopped.close()
    resumed = prediction(store=store)
    assert_same(arrays(resumed.stream(executor=second)), expected)
    assert resumed.report.n_kept == first.n_tiles
    assert first.n_tiles + second.n_tiles == len(RULES.tiling.tiles)


def test_after_an_error_the_tiles_in_flight_are_not_examined():
    class Full(MemoryStore):
        def put(self, number, result):
            raise OutputError("disk full")

    seen = []

    class Slow(SlowDetector):
        def detect(self, source, tile):
            seen.append(tile)
            return super().detect(source, tile)

    with pytest.raises(OutputError, match="disk full"):
        next(prediction(Slow(LABELS), Full()).stream(in_flight=20))
    assert len(seen) <= 6  # those that a thread had begun


def test_tiles_that_cannot_be_read():
    class Blind(LabelDetector):
        def detect(self, source, tile):
            if tile.core[1] >= self.from_y:
                raise DataError(f"row {tile.core[1]} is damaged")
            return super().detect(source, tile)

    lower_half = Blind(LABELS)
    lower_half.from_y = 200
    tiles = prediction(lower_half)
    tops = np.concatenate([batch.masks.boxes[:, 1] for batch in tiles.stream()])
    assert len(tops) > 50
    assert tops.max() < 210
    assert len(tiles.report.failed) == sum(tile.core[1] >= 200 for tile in RULES.tiling.tiles)
    nothing = Blind(LABELS)
    nothing.from_y = 0
    with pytest.raises(DataError, match=r"^row 0 is damaged$"):
        list(prediction(nothing).stream())
