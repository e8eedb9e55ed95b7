"""One file, or one cell folder, for each image: which belongs to which, and one way to read them all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from everycell.errors import DataError, UnknownSizeError
from everycell.formats.aperio_xml import aperio_classes, read_aperio_xml
from everycell.formats.classes import UNNAMED, Classes, ToldBy
from everycell.formats.coco import group_entries, highest_category, own_size, parse_entries, read_entries
from everycell.formats.hovernet_json import hovernet_types, read_hovernet_json
from everycell.formats.imagej_roi import imagej_roi_classes, read_imagej_rois
from everycell.formats.json_file import json_kind, read_json
from everycell.formats.label_image import read_label_image
from everycell.formats.label_stack import map_array
from everycell.formats.qupath_geojson import geojson_classes, read_geojson
from everycell.formats.typed_labels import cells_of_array, has_typed_shape, highest_class, mat_has_classes, read_mat
from everycell.structures import Instances, MaskCrops

CellFileKind = Literal["coco", "geojson", "rois", "labels", "mat", "aperio", "array", "hovernet", "folder"]

# The first pattern that fits any file of a folder decides for the whole folder; those with scores come first. What a
# .json or .npy file is, its content says.
_PATTERNS: tuple[tuple[CellFileKind | Literal["json"], re.Pattern[str]], ...] = (
    ("coco", re.compile(r"(?P<stem>.+)\.coco\.json$")),
    ("geojson", re.compile(r"(?P<stem>.+)\.geojson$")),
    ("geojson", re.compile(r"(?P<stem>.+)\.geojson\.gz$")),
    ("rois", re.compile(r"(?P<stem>.+)[._]rois\.zip$", re.IGNORECASE)),
    ("labels", re.compile(r"(?P<stem>.+)\.labels\.tiff?$", re.IGNORECASE)),
    ("labels", re.compile(r"(?P<stem>.+)\.labels\.zarr$", re.IGNORECASE)),
    ("mat", re.compile(r"(?P<stem>.+)\.mat$", re.IGNORECASE)),
    ("aperio", re.compile(r"(?P<stem>.+)\.xml$", re.IGNORECASE)),
    ("labels", re.compile(r"(?P<stem>.+?)(_cp)?_masks\.(tiff?|png|npy)$", re.IGNORECASE)),
    ("json", re.compile(r"(?P<stem>.+)\.json$")),
    ("labels", re.compile(r"(?P<stem>.+?)(\.ome)?\.(tiff?|png|npy)$", re.IGNORECASE)),
)
_CLASSES_BY_NAME: Mapping[CellFileKind, Callable[[Path], set[str]]] = {
    "geojson": geojson_classes,
    "rois": imagej_roi_classes,
    "aperio": aperio_classes,
}
_OUTLINE_READERS: Mapping[CellFileKind, Callable[[Path, tuple[int, int], Classes, float | None], Instances]] = {
    "geojson": read_geojson,
    "rois": read_imagej_rois,
    "aperio": read_aperio_xml,
    "hovernet": read_hovernet_json,
}
_CLASS_FILE = re.compile(r"class([1-9]\d*)\.tiff?$")


@dataclass(frozen=True)
class CellFiles:
    """Cells of several images, in one file or one cell folder each.

    Attributes:
        files: stem → file or folder, ascending.
        kind: of all of them.
        told_by: how they say a cell's class.
    """

    files: Mapping[str, Path]
    kind: CellFileKind
    told_by: ToldBy

    @classmethod
    def open(cls, path: Path) -> CellFiles:
        """Find the files; nothing but names is read, and one file where its name does not say what it is.

        Args:
            path: a file, or a folder: of cell folders, or of files of which the first kind that is there is taken:
                `.coco.json`, `.geojson` (`.geojson.gz`), `.rois.zip`, `.labels.tif`, `.labels.zarr`, `.mat`, `.xml`,
                `_masks.*` (`_cp_masks.*`), `.json`, any other image.

        Raises:
            DataError: there is no such file, or there are two for one stem.
        """
        if is_folder(path) and (folders := _cell_folders(path)):
            return cls(folders, "folder", "id")
        children = sorted(child for child in (path.iterdir() if is_folder(path) else [path]) if not is_folder(child))
        for pattern_kind, pattern in _PATTERNS:
            found: dict[str, Path] = {}
            for child in children:
                matched = pattern.match(child.name)
                if matched is None or child.name.startswith("."):
                    continue
                if matched["stem"] in found:
                    first = found[matched["stem"]]
                    raise DataError(f"{first} and {child.name} are for the same image; keep one of them")
                found[matched["stem"]] = child
            kind = _kind(pattern_kind, next(iter(found.values()))) if found else None
            if kind is not None:
                return cls(dict(sorted(found.items())), kind, _told_by(kind, found))
        raise DataError(
            f"no cells in {path}: expected <stem>.coco.json, <stem>.geojson, <stem>.rois.zip, <stem>.mat, <stem>.xml, "
            "<name>/class1.tif …, or label images (<stem>.labels.tif, <stem>_masks.*, <stem>.tif, .png or .npy)"
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Stems, ascending."""
        return tuple(self.files)

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes as the files say them: class1 … where they have numbers, none where they have none."""
        paths = self.files.values()
        if names_of := _CLASSES_BY_NAME.get(self.kind):
            return tuple(sorted({name for path in paths for name in names_of(path)}))
        if self.told_by == "nothing":
            return ()
        return tuple(f"class{k}" for k in range(1, max(map(self._highest_class, paths)) + 1))

    def _highest_class(self, path: Path) -> int:
        if self.kind == "coco":
            return highest_category(_one_image(path))
        if self.kind == "mat":
            return highest_class(path)
        if self.kind == "array":
            array = map_array(path)
            return int(array[..., 1].max()) if array.shape[2] == 2 else array.shape[2] - 1
        return max(hovernet_types(path) if self.kind == "hovernet" else _class_files(path), default=0)

    def read(
        self, name: str, size: tuple[int, int] | None = None, classes: Classes = UNNAMED, mpp: float | None = None
    ) -> Instances:
        """Cells of one image.

        Args:
            name: of the image.
            size: (height, width) of the image; None only if the file says it.
            classes: what names or numbers in the file stand for; of no use to label images, which have one class.
            mpp: micrometres per pixel of the image.

        Raises:
            UnknownSizeError: the size is None and the file does not say it.
            DataError: the file cannot be read, or is for an image of another size.
        """
        path = self.files[name]
        if self.told_by == "nothing":
            classes = replace(classes, blind=True)
        cells = replace(self._read(path, size, classes, mpp), mpp=mpp)
        if size is not None and cells.image_size != size:
            raise DataError(f"{path} is for an image of (height, width) {cells.image_size}, but the image has {size}")
        return cells

    def _read(self, path: Path, size: tuple[int, int] | None, classes: Classes, mpp: float | None) -> Instances:
        match self.kind:
            case "labels":
                return read_label_image(path, mpp)
            case "mat":
                return read_mat(path, classes, mpp)
            case "array":
                return cells_of_array(np.asarray(map_array(path)), str(path), classes, mpp)
            case "coco":
                entries = _one_image(path)
                if entries or size is None:
                    return parse_entries(entries, size or own_size(entries, path), classes, path)
                return Instances.empty(size, class_names=classes.names)
            case "folder":
                return _read_folder(path, size, classes)
        if size is None:
            raise UnknownSizeError(f"{path} does not say how large its image is; name the image or its size")
        return _OUTLINE_READERS[self.kind](path, size, classes, mpp)


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder of files; a `.zarr` folder is one file to us."""
    return path.is_dir() and path.suffix.lower() != ".zarr"


def _kind(pattern_kind: CellFileKind | Literal["json"], path: Path) -> CellFileKind | None:
    """What the files are, of which `path` is the first; None for JSON files of another kind."""
    if pattern_kind == "json":
        kinds: dict[str | None, CellFileKind] = {"coco results": "coco", "geojson": "geojson", "hovernet": "hovernet"}
        return kinds.get(json_kind(read_json(path)))
    is_array = pattern_kind == "labels" and path.suffix.lower() == ".npy" and has_typed_shape(map_array(path).shape)
    return "array" if is_array else pattern_kind


def _told_by(kind: CellFileKind, files: Mapping[str, Path]) -> ToldBy:
    if kind in _CLASSES_BY_NAME:
        return "name"
    if kind == "mat":
        return "id" if mat_has_classes(next(iter(files.values()))) else "nothing"
    if kind == "hovernet":
        return "id" if any(hovernet_types(path) for path in files.values()) else "nothing"
    return "nothing" if kind == "labels" else "id"


def _one_image(path: Path) -> dict[int, dict[str, Any]]:
    """Position → entry of a results file, of which all must be for the same image."""
    by_image = group_entries(read_entries(path), path)
    if len(by_image) > 1:
        raise DataError(f"{path} must hold the cells of one image, got those of {len(by_image)}; give the file itself")
    return next(iter(by_image.values()), {})


def _cell_folders(path: Path) -> dict[str, Path]:
    """Name → folder of class<N>.tif, for `path` itself or the folders in it."""
    if _class_files(path):
        return {path.resolve().name: path}
    children = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    if not any(_class_files(child) for child in children):
        return {}
    return {child.name: child for child in children if _class_files(child) or (child / "image.tif").is_file()}


def _class_files(folder: Path) -> dict[int, Path]:
    """Class number → file, ascending."""
    files = sorted(folder.iterdir())
    return dict(sorted((int(match[1]), path) for path in files if (match := _CLASS_FILE.match(path.name))))


def _read_folder(folder: Path, size: tuple[int, int] | None, classes: Classes) -> Instances:
    """Cells class by class; those of two classes may share pixels."""
    parts, class_ids = [], [np.zeros(0, np.int64)]
    for number, path in _class_files(folder).items():
        of_class = read_label_image(path)
        size = of_class.image_size if size is None else size
        if of_class.image_size != size:
            raise DataError(
                f"{path} is for an image of (height, width) {of_class.image_size}, but the image has {size}"
            )
        parts.append(of_class.masks)
        if len(of_class):
            try:
                class_ids.append(np.full(len(of_class), classes.by_id(number)))
            except DataError as error:
                raise DataError(f"{path}: {error}") from None
    if size is None:
        raise UnknownSizeError(f"{folder} has no class<N>.tif and does not say how large its image is; name the image")
    masks = MaskCrops.empty()
    if parts:
        masks = MaskCrops(np.concatenate([m.boxes for m in parts]), np.concatenate([m.bits for m in parts]))
    return Instances.from_masks(masks, size, class_ids=np.concatenate(class_ids), class_names=classes.names)
