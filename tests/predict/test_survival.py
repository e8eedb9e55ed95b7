"""Runs that are killed, images that are damaged, disks that are full."""

import errno
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tile_stubs import LabelDetector, canonical, predict_to_file, random_cells

from everycell.errors import DataError, OutputError
from everycell.io import open_source
from everycell.predict.detector import Rules
from everycell.predict.engine import TiledPrediction
from everycell.predict.store import FolderStore, MemoryStore
from everycell.predict.tiling import Tiling

LABELS = random_cells(np.random.default_rng(1), (100, 120), 40, 30)
RULES = Rules(Tiling(LABELS.shape, 50, 8), max_covered=0.5)


def prediction(store=None, detector=None) -> TiledPrediction:
    source = open_source(np.zeros(LABELS.shape, np.uint8))
    return TiledPrediction(source, detector or LabelDetector(LABELS), RULES, store=store)


def folder_store(folder: Path, **plan) -> FolderStore:
    return FolderStore(folder, LABELS.shape, plan)


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    code = "from tile_stubs import *; predict_to_file(Path('killed'), Path('never'), SlowDetector)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": Path(__file__).parent}
    )
    try:
        while len(list(tmp_path.glob("killed/tile_*.npz"))) < 5:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    n_kept = predict_to_file(tmp_path / "killed", tmp_path / "resumed")
    assert 5 <= n_kept < 64
    assert predict_to_file(tmp_path / "whole", tmp_path / "uninterrupted") == 0
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "uninterrupted").read_bytes()
    assert (tmp_path / "resumed").stat().st_size > 10_000


def flipped(data: bytes) -> bytes:
    """With one wrong bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


class TestFolder:
    def test_cells_come_back_as_they_went(self, tmp_path):
        memory, folder = MemoryStore(), folder_store(tmp_path / "work")
        prediction(memory).run()
        for number, result in memory.items():
            folder.put(number, result)
            back = folder.get(number)
            assert (back.split, back.capped, back.skipped) == (result.split, result.capped, result.skipped)
            assert canonical(back.found.cells) == canonical(result.found.cells)
            np.testing.assert_array_equal(back.found.windows, result.found.windows)
            np.testing.assert_array_equal(back.found.cut, result.found.cut)
        assert any(result.found.cut.any() for result in memory.values())
        assert folder.get(len(memory)) is None

    def test_a_damaged_file_is_made_again(self, tmp_path):
        first = prediction(folder_store(tmp_path))
        first.run()
        expected = first.cells()
        path = tmp_path / "tile_2.npz"
        data = path.read_bytes()
        for damaged in (data[: len(data) // 2], b"", flipped(data)):
            path.write_bytes(damaged)
            again = prediction(folder_store(tmp_path))
            again.run()
            assert again.report.n_kept == len(RULES.tiling.tiles) - 1
            assert canonical(again.cells()) == canonical(expected)

    def test_another_plan_is_refused(self, tmp_path):
        folder_store(tmp_path, thresh=0.5)
        folder_store(tmp_path, thresh=0.5)
        with pytest.raises(OutputError, match="holds tiles of a run with other settings; remove it"):
            folder_store(tmp_path, thresh=0.6)


def test_a_full_disk_stops_and_the_next_run_goes_on(tmp_path, monkeypatch):
    write, free = Path.write_bytes, iter(range(4))

    def write_until_full(path, data):
        if next(free, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_until_full)
    stopped = prediction(folder_store(tmp_path))
    with pytest.raises(OutputError, match=r"cannot write .*tile_.*: No space left on device; free some space"):
        stopped.run()
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 4  # the plan and three tiles, nothing half-written
    resumed = prediction(folder_store(tmp_path))
    resumed.run()
    assert resumed.report.n_kept == 3
    whole = prediction()
    whole.run()
    assert canonical(resumed.cells()) == canonical(whole.cells())


class TestDamagedImage:
    class Damaged(LabelDetector):
        """Cannot read the windows that hold the pixel (60, 50)."""

        def detect(self, source, tile):
            x0, y0, x1, y1 = tile.window
            if x0 <= 60 < x1 and y0 <= 50 < y1:
                raise DataError(f"slide.svs: the region {x0}, {y0}, {x1}, {y1} is damaged")
            return super().detect(source, tile)

    def test_the_rest_is_finished_and_the_tile_is_reported(self, tmp_path):
        broken = prediction(folder_store(tmp_path), self.Damaged(LABELS))
        seen = []
        broken.run(lambda done, total: seen.append((done, total)))
        n = len(RULES.tiling.tiles)
        lost = [
            tile
            for tile in RULES.tiling.tiles
            if tile.window[0] <= 60 < tile.window[2] and tile.window[1] <= 50 < tile.window[3]
        ]
        assert 0 < len(lost) < n
        assert len(broken.report.failed) == len(lost)
        assert seen[-1] == (n, n)
        first = f"slide.svs: the region {', '.join(map(str, lost[0].window))} is damaged"
        expected = f"{len(lost)} of {n} tiles could not be read and have no cells: {first} and {len(lost) - 1} more"
        assert broken.report.lost == expected
        assert broken.cells().notes == (expected,)
        whole = prediction()
        whole.run()
        far = [cell for cell in canonical(whole.cells()) if not touches(cell[0], lost)]
        assert 0 < len(far) < len(whole.cells())
        assert set(far) <= set(canonical(broken.cells()))
        # When the image is mended, only these tiles are predicted.
        mended = prediction(folder_store(tmp_path))
        mended.run()
        assert mended.report.n_kept == n - len(lost)
        assert canonical(mended.cells()) == canonical(whole.cells())

    def test_an_image_without_a_readable_tile_fails(self):
        class Dead(LabelDetector):
            def detect(self, source, tile):
                raise DataError(f"slide.svs: no {tile.core[0]}")

        with pytest.raises(DataError, match=r"^slide.svs: no 0$"):
            prediction(detector=Dead(LABELS)).run()

    def test_our_own_mistakes_are_not_swallowed(self):
        class Wrong(LabelDetector):
            def detect(self, source, tile):
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            prediction(detector=Wrong(LABELS)).run()


def touches(box, tiles) -> bool:
    """Whether a cell may depend on what one of the tiles saw."""
    x0, y0, x1, y1 = box
    return any(x0 < t.window[2] and t.window[0] < x1 and y0 < t.window[3] and t.window[1] < y1 for t in tiles)


def test_memory_does_not_grow_with_the_image(tmp_path):
    """Stitching 8 times as many rows of tiles takes no more memory at a time."""

    peaks = []
    for height in (200, 1600):
        labels = np.zeros((height, 150), np.int32)
        block = random_cells(np.random.default_rng(0), (100, 150), 60, 30)
        for i, y in enumerate(range(0, height, 100)):
            labels[y : y + 100] = np.where(block > 0, block + i * block.max(), 0)
        rules = Rules(Tiling(labels.shape, 60, 10), max_covered=0.5)
        source = open_source(np.zeros(labels.shape, np.uint8))
        tall = TiledPrediction(
            source, LabelDetector(labels), rules, store=FolderStore(tmp_path / str(height), labels.shape, {})
        )
        tall.run()
        tracemalloc.start()
        count = sum(len(batch) for batch in tall.batches())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count > height / 2
    assert peaks[1] < 1.5 * peaks[0]
