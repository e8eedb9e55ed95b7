"""Cells on disk, one image after the other, with what the files beside them know about the images."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from everycell.datasets import ImageId, read_id_map
from everycell.errors import DataError
from everycell.formats import Classes, CocoInstances, open_cell_set
from everycell.io import find_images, read_raster
from everycell.structures import Instances


@dataclass(frozen=True)
class KnownImages:
    """What is known about images besides their cells, by stem.

    Attributes:
        id_map: ids and sizes.
        files: the images themselves.
        summary: (height, width) in px and µm/px from the `summary.csv` of a prediction.
        class_names: names of classes 1 … K, from the same.
    """

    id_map: Mapping[str, ImageId] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    summary: Mapping[str, tuple[tuple[int, int], float | None]] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()

    def size_and_mpp(self, stem: str) -> tuple[tuple[int, int] | None, float | None]:
        """(height, width) in px and µm/px of an image, None where unknown.

        Raises:
            DataError: its file cannot be read, or has another size than the id map says.
        """
        size, mpp = self.summary.get(stem, (None, None))
        entry = self.id_map.get(stem)
        if stem in self.files:
            raster = read_raster(self.files[stem])
            size, mpp = raster.size, raster.mpp or mpp
            if entry and (fault := entry.size_fault(self.files[stem], size)):
                raise DataError(fault)
        return (entry.size if entry else size), mpp


def look_around(source: Path, id_map: Path | None, images: Path | None) -> KnownImages:
    """Collect what an id map, a folder of images and the `summary.csv` beside the cells in `source` say."""
    summary, class_names = _read_summary((source if source.is_dir() else source.parent) / "summary.csv")
    return KnownImages(
        read_id_map(id_map) if id_map else {}, dict(find_images([images])) if images else {}, summary, class_names
    )


def _read_summary(path: Path) -> tuple[dict[str, tuple[tuple[int, int], float | None]], tuple[str, ...]]:
    """Size and µm/px by stem, and class names; nothing where there is no such file, or another program's."""
    if not path.is_file():
        return {}, ()
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or ()
        if not {"image", "status", "height", "width", "mpp"} <= set(columns):
            return {}, ()
        done = [row for row in reader if row["status"] != "failed"]
    sizes = {
        row["image"]: ((int(row["height"]), int(row["width"])), float(row["mpp"]) if row["mpp"] else None)
        for row in done
    }
    return sizes, tuple(name.removeprefix("count_") for name in columns if name.startswith("count_"))


@dataclass(frozen=True)
class CellSource:
    """The cells of several images.

    Attributes:
        stems: of the images, ascending.
        class_names: names of classes 1 … K, empty when unknown.
        has_classes: whether the files hold classes; label images do not.
        read: cells of the image with a stem.
    """

    stems: tuple[str, ...]
    class_names: tuple[str, ...]
    has_classes: bool
    read: Callable[[str], Instances]


def open_cells(source: Path, known: KnownImages, class_names: Sequence[str] = ()) -> CellSource:
    """Find the cells in `source`; nothing but names is read yet, and class names where nothing else says them.

    Args:
        source: anything that `open_cell_set` knows; COCO results of all images need the id map.
        known: about the images.
        class_names: names of classes 1 … K, instead of the known ones.

    Raises:
        DataError: there are no cells, or results of several images without an id map.
    """
    cells = open_cell_set(source, {stem: entry.id for stem, entry in known.id_map.items()} or None)
    names = tuple(class_names) or known.class_names
    if cells.told_by == "name" and not names:
        names = cells.class_names()
    if cells.told_by == "nothing" and len(names) != 1:
        names = ()
    classes = Classes(names)

    def read(stem: str) -> Instances:
        size, mpp = known.size_and_mpp(stem)
        found = cells.read(stem, size, classes, mpp)
        n_crowds = len(cells.read_crowds(stem, size, classes)) if isinstance(cells, CocoInstances) else 0
        notes = (*found.notes, f"{n_crowds} regions with iscrowd are left out") if n_crowds else found.notes
        return replace(found, class_names=names, notes=notes)

    return CellSource(cells.names, names, cells.told_by != "nothing", read)
