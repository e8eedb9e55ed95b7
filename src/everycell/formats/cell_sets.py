"""Cells of several images, however they are stored, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from everycell.errors import DataError
from everycell.formats.cell_files import CellFiles, is_folder
from everycell.formats.classes import UNNAMED, Classes, ToldBy
from everycell.formats.coco import group_entries, highest_category, own_size, parse_entries, read_entries
from everycell.formats.coco_instances import CocoInstances
from everycell.formats.json_file import json_kind, read_json
from everycell.formats.label_stack import LabelStack, map_array
from everycell.structures import Instances


class CellSet(Protocol):
    """Cells of several images; values of all such types can be pickled.

    Attributes:
        names: of the images, ascending; their order in the file for a `LabelStack`.
        told_by: how a cell's class is said: by a name, by a number, or not at all.
    """

    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def told_by(self) -> ToldBy: ...  # noqa: D102

    def class_names(self) -> tuple[str, ...]:
        """Names of classes 1 … K as the files say them, class1 … for numbers; may read all files."""
        ...

    def read(
        self, name: str, size: tuple[int, int] | None = None, classes: Classes = UNNAMED, mpp: float | None = None
    ) -> Instances:
        """Cells of the image `name`; `size` is its (height, width), `mpp` its micrometres per pixel.

        Raises:
            UnknownSizeError: no size is given, and the file does not say it.
            DataError: they cannot be read, are for another size or have another class.
        """
        ...


@dataclass(frozen=True)
class CocoResults:
    """COCO results of several images in one file.

    Attributes:
        path: of the file.
        ids: image id by name.
        entries: image id → position in the file → entry.
    """

    path: Path
    ids: Mapping[str, int]
    entries: Mapping[int, Mapping[int, dict[str, Any]]]

    told_by: ClassVar[ToldBy] = "id"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, also of those without an entry."""
        return tuple(sorted(self.ids))

    def class_names(self) -> tuple[str, ...]:
        """Class1 and so on, up to the highest category id."""
        highest = max(map(highest_category, self.entries.values()), default=0)
        return tuple(f"class{k}" for k in range(1, highest + 1))

    def read(
        self, name: str, size: tuple[int, int] | None = None, classes: Classes = UNNAMED, mpp: float | None = None
    ) -> Instances:
        """Cells of the image `name`."""
        entries = self.entries[self.ids[name]]
        return parse_entries(entries, size or own_size(entries, self.path), classes, self.path, mpp)


def open_cell_set(path: Path, ids: Mapping[str, int] | None = None) -> CellSet:
    """Find out by names and content what `path` holds.

    Args:
        path: a file, or a folder of files or cell folders (see `CellFiles.open`); a folder with `images` and `labels`
            or `annotations` stands for the latter; one COCO file for all images (instances, or results, also zipped);
            a `.npy` file of all images, or a folder with a `masks.npy`.
        ids: image id by name, for COCO results of all images. A results file whose stem is a name is for that image.

    Raises:
        DataError: there is nothing that can be read, or results of several images without ids.
    """
    if not path.exists():
        raise DataError(f"no such file or folder: {path}; expected cells")
    if is_folder(path):
        return _open_folder(path)
    if path.suffix == ".zip" and not path.stem.lower().endswith("rois"):
        return _open_results(path, read_entries(path), ids)
    if path.suffix == ".json":
        content = read_json(path)
        kind = json_kind(content)
        if kind is None:
            raise DataError(f"{path} is no COCO file, no GeoJSON and none of HoVer-Net's; what wrote it?")
        if kind == "coco instances":
            return CocoInstances.open(path, content)
        stem = path.name.removesuffix(".json").removesuffix(".coco")
        is_of_one = path.name.endswith(".coco.json") if ids is None else stem in ids
        if kind == "coco results" and not is_of_one:
            return _open_results(path, content, ids)
    if path.suffix.lower() == ".npy" and map_array(path).ndim == 4:
        return LabelStack.open(path)
    return CellFiles.open(path)


def _open_folder(folder: Path) -> CellSet:
    folder = cells_folder(folder)
    if (masks := folder / "masks.npy").is_file() and map_array(masks).ndim == 4:
        return LabelStack.open(masks)
    return find_coco_instances(folder) or CellFiles.open(folder)


def cells_folder(folder: Path) -> Path:
    """Where the cells of a data set are: in `labels` or `annotations` beside `images`, else in `folder` itself."""
    if (folder / "images").is_dir():
        for name in ("labels", "annotations"):
            if (folder / name).is_dir():
                return folder / name
    return folder


def find_coco_instances(folder: Path) -> CocoInstances | None:
    """The COCO instances in the only `.json` file of a folder; None where that is something else, or not the only one.

    Raises:
        DataError: the file is damaged.
    """
    files = [path for path in folder.glob("*.json") if not path.name.startswith(".")]
    if len(files) != 1:
        return None
    content = read_json(files[0])
    return CocoInstances.open(files[0], content) if json_kind(content) == "coco instances" else None


def _open_results(path: Path, entries: list[Any], ids: Mapping[str, int] | None) -> CocoResults:
    if not ids:
        raise DataError(f"{path} holds the cells of all images: give --id-map FILE to tell them apart")
    return CocoResults(path, ids, group_entries(entries, path, set(ids.values())))
