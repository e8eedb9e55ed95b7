"""What all stream writers promise: batches make no difference, failures leave nothing behind."""

import errno
import io
from pathlib import Path

import numpy as np
import pytest

from everycell.errors import OutputError
from everycell.formats import (
    AnnDataWriter,
    CocoWriter,
    GeoJsonWriter,
    ImagejRoiWriter,
    LabelImageWriter,
    LabelZarrWriter,
    TableWriter,
    measure,
)
from everycell.plot import OverlayPyramidWriter
from everycell.structures import Instances, MaskCrops

SIZE = (600, 700)
PIXELS = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


class Source:
    """An image that hands out windows only."""

    def read(self, window):
        x0, y0, x1, y1 = window
        return PIXELS[y0:y1, x0:x1]


WRITERS = {
    "a.labels.tif": lambda path: LabelImageWriter(path, SIZE, 0.5),
    "a.labels.zarr": lambda path: LabelZarrWriter(path, SIZE, 0.5),
    "a.overlay.tif": lambda path: OverlayPyramidWriter(path, Source(), SIZE, 0.5),
    "a.geojson": GeoJsonWriter,
    "a.geojson.gz": GeoJsonWriter,
    "a.coco.json": CocoWriter,
    "a.rois.zip": ImagejRoiWriter,
    "a.cells.csv": lambda path: TableWriter(path, SIZE, 0.5),
    "a.cells.parquet": lambda path: TableWriter(path, SIZE, 0.5),
    "a.h5ad": lambda path: AnnDataWriter(path, SIZE, 0.5),
}
writers = pytest.mark.parametrize("name", WRITERS)


def cells(n=40, seed=0):
    """Overlapping noise, equal scores among them, a mask without pixels last."""
    rng = np.random.default_rng(seed)
    crops = [rng.random(rng.integers(2, 40, 2)) < 0.7 for _ in range(n - 1)] + [np.zeros((3, 3), bool)]
    origins = np.stack([rng.integers(0, SIZE[1] - 40, n), rng.integers(0, SIZE[0] - 40, n)], axis=1)
    return Instances.from_masks(
        MaskCrops.from_crops(origins, crops),
        SIZE,
        scores=(rng.integers(0, 10, n) / 10).astype(np.float32),
        class_ids=rng.integers(1, 3, n),
        mpp=0.5,
        class_names=("stroma", "tumour"),
    )


def batches(found, sizes):
    start = 0
    for size in sizes:
        yield found.select(np.arange(start, min(start + size, len(found))))
        start += size


def write(writer, parts):
    first = 1
    for part in parts:
        writer.write(part, measure(part, PIXELS, image="a", first_cell=first))
        first += len(part)


def content(path):
    """Bytes of a file, or of all files in a folder by name."""
    if path.is_file():
        return path.read_bytes()
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@writers
def test_the_same_cells_in_other_batches_or_in_another_folder_are_the_same_bytes(tmp_path, name):
    found = []
    for folder, sizes in (("one", [40]), ("more", [7, 0, 20, 13])):
        (tmp_path / folder).mkdir()
        with WRITERS[name](tmp_path / folder / name) as writer:
            write(writer, batches(cells(), sizes))
        found.append(content(tmp_path / folder / name))
        assert [path.name for path in (tmp_path / folder).iterdir()] == [name]
    assert found[0] == found[1]


@writers
def test_nothing_appears_before_close_and_an_exception_leaves_nothing(tmp_path, name):
    def fail():
        with WRITERS[name](tmp_path / name) as writer:
            write(writer, batches(cells(), [10]))
            assert not (tmp_path / name).exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


@writers
def test_a_failure_leaves_the_old_output(tmp_path, name):
    with WRITERS[name](tmp_path / name) as writer:
        write(writer, [cells()])
    before = content(tmp_path / name)
    writer = WRITERS[name](tmp_path / name)
    write(writer, [cells(10, seed=3)])
    writer.abort()
    assert content(tmp_path / name) == before
    with WRITERS[name](tmp_path / name) as writer:
        write(writer, [cells(10, seed=3)])
    assert content(tmp_path / name) != before
    assert [path.name for path in tmp_path.iterdir()] == [name]


@writers
def test_a_missing_folder_is_an_output_error(tmp_path, name):
    with pytest.raises(OutputError, match="create the folder first"):
        WRITERS[name](tmp_path / "nowhere" / name)


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz", "a.coco.json", "a.rois.zip"])
def test_a_disk_that_fills_up_is_an_output_error_and_leaves_nothing(tmp_path, name, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > 2000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda self, mode: Full(self, mode))  # noqa: PLW0108  (a method must be a function)
    with pytest.raises(OutputError, match=f"{name}: No space left on device; free some space"):  # noqa: SIM117
        with WRITERS[name](tmp_path / name) as writer:
            write(writer, batches(cells(), [10] * 4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.labels.tif", "a.overlay.tif", "a.labels.zarr", "a.cells.csv", "a.h5ad"])
def test_a_disk_that_is_full_at_the_end_is_an_output_error_and_leaves_nothing(tmp_path, name, monkeypatch):
    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    monkeypatch.setattr(Path, "rename", full)
    writer = WRITERS[name](tmp_path / name)
    write(writer, [cells()])
    with pytest.raises(OutputError, match=f"{name}: No space left on device; free some space"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


@writers
def test_no_cells_are_an_output_whether_an_empty_batch_came_or_none(tmp_path, name):
    found = []
    for folder, parts in (("none", []), ("empty", [Instances.empty(SIZE, 0.5)])):
        (tmp_path / folder).mkdir()
        with WRITERS[name](tmp_path / folder / name) as writer:
            write(writer, parts)
        found.append(content(tmp_path / folder / name))
    assert found[0] == found[1]
    assert len(found[0]) > 0
