"""COCO instances: one JSON file with images, annotations and categories (https://cocodataset.org/#format-data)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from everycell.errors import DataError
from everycell.formats.classes import UNNAMED, Classes, ToldBy
from everycell.formats.coco_masks import decode_segmentation
from everycell.formats.json_file import json_kind, read_json
from everycell.formats.outlines import without_empty
from everycell.structures import Instances, MaskCrops


@dataclass(frozen=True)
class CocoInstances:
    """The content of one file, checked but for the masks.

    Attributes:
        path: of the file.
        names: stems of the images' file names, ascending.
        ids: image id by name.
        file_names: of the images, by name.
        sizes: (height, width) in px by name.
        categories: name of each category by its id, ascending by id.
        annotations: by name of the image.
    """

    path: Path
    names: tuple[str, ...]
    ids: Mapping[str, int]
    file_names: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]
    categories: Mapping[int, str]
    annotations: Mapping[str, list[dict[str, Any]]]

    told_by: ClassVar[ToldBy] = "name"

    @classmethod
    def open(cls, path: Path, content: Any = None) -> CocoInstances:
        """Check the file `path`, or its `content` if that is read already.

        Raises:
            DataError: it is no such file, or ids are missing, double or unknown.
        """
        content = read_json(path, "COCO instances") if content is None else content
        if json_kind(content) != "coco instances":
            raise DataError(f"{path}: expected COCO instances, an object with images, annotations and categories")
        categories = {key: str(row["name"]) for key, row in _rows(content, "categories", ("name",), path).items()}
        if len(set(categories.values())) < len(categories):
            raise DataError(f"{path}: two categories have the same name; got {', '.join(categories.values())}")
        images = _images(_rows(content, "images", ("file_name", "height", "width"), path), path)
        owner = {image_id: name for name, (image_id, _, _) in images.items()}
        annotations: dict[str, list[dict[str, Any]]] = {name: [] for name in images}
        keys = ("image_id", "category_id", "segmentation")
        for key, row in _rows(content, "annotations", keys, path).items():
            if type(row["image_id"]) is not int or row["image_id"] not in owner:
                raise DataError(f"{path}, annotation {key}: there is no image with id {row['image_id']!r}")
            if type(row["category_id"]) is not int or row["category_id"] not in categories:
                known = ", ".join(map(str, categories))
                raise DataError(f"{path}, annotation {key}: category_id must be {known}, got {row['category_id']!r}")
            if row.get("iscrowd", 0) not in (0, 1):
                raise DataError(f"{path}, annotation {key}: iscrowd must be 0 or 1, got {row['iscrowd']!r}")
            annotations[owner[row["image_id"]]].append(row)
        return cls(
            path,
            tuple(images),
            {name: image_id for name, (image_id, _, _) in images.items()},
            {name: file_name for name, (_, file_name, _) in images.items()},
            {name: size for name, (_, _, size) in images.items()},
            dict(sorted(categories.items())),
            annotations,
        )

    def class_names(self) -> tuple[str, ...]:
        """Names of the categories, ascending by id."""
        return tuple(self.categories.values())

    def read(
        self, name: str, size: tuple[int, int] | None = None, classes: Classes = UNNAMED, mpp: float | None = None
    ) -> Instances:
        """Cells of the image `name`: its annotations but for crowds; score 1 where they have none."""
        return self._read(name, size, classes, mpp, crowd=0)

    def read_crowds(
        self, name: str, size: tuple[int, int] | None = None, classes: Classes = UNNAMED, mpp: float | None = None
    ) -> Instances:
        """Regions of the image `name` with `iscrowd`: cells that nobody outlined one by one."""
        return self._read(name, size, classes, mpp, crowd=1)

    def _read(
        self, name: str, size: tuple[int, int] | None, classes: Classes, mpp: float | None, *, crowd: int
    ) -> Instances:
        if size not in (None, self.sizes[name]):
            raise DataError(
                f"{self.path} has image {self.file_names[name]} with (height, width) {self.sizes[name]}, "
                f"but the image has {size}"
            )
        classes = classes if classes.names or classes.blind else Classes(self.class_names())
        rows = [row for row in self.annotations[name] if row.get("iscrowd", 0) == crowd]
        masks, class_ids, scores = [], [], []
        for row in rows:
            try:
                masks.append(decode_segmentation(row["segmentation"], self.sizes[name]))
                class_ids.append(classes.by_name(self.categories[row["category_id"]]))
                score = row.get("score", 1.0)
                if type(score) not in (int, float) or not 0 <= score <= 1:
                    raise DataError(f"score must be a number in 0 … 1, got {score!r}")
            except DataError as error:
                where = f"{self.path}, image {self.file_names[name]}, annotation {row['id']}"
                raise DataError(f"{where}: {error}") from None
            scores.append(score)
        origins = np.array([origin for origin, _ in masks], np.int64).reshape(-1, 2)
        cells = Instances.from_masks(
            MaskCrops.from_crops(origins, [bits for _, bits in masks]),
            self.sizes[name],
            scores=np.array(scores, np.float32),
            class_ids=np.array(class_ids, np.int64),
            mpp=mpp,
            class_names=classes.names,
        )
        return without_empty(cells)


def _rows(content: dict[str, Any], what: str, keys: tuple[str, ...], path: Path) -> dict[int, dict[str, Any]]:
    """The objects of a list by their `id`."""
    found: dict[int, dict[str, Any]] = {}
    if not isinstance(content.get(what), list):
        raise DataError(f"{path}: {what} must be a list, got {type(content.get(what)).__name__}")
    for position, row in enumerate(content[what]):
        lacking = [key for key in ("id", *keys) if not isinstance(row, dict) or key not in row]
        if lacking:
            raise DataError(f"{path}, {what}, entry {position}: {', '.join(lacking)} missing")
        if type(row["id"]) is not int:
            raise DataError(f"{path}, {what}, entry {position}: id must be a whole number, got {row['id']!r}")
        if row["id"] in found:
            raise DataError(f"{path}: id {row['id']} occurs twice among the {what}; ids must be distinct")
        found[row["id"]] = row
    return found


def _images(rows: Mapping[int, dict[str, Any]], path: Path) -> dict[str, tuple[int, str, tuple[int, int]]]:
    """Stem → image id, file name, (height, width), ascending by stem."""
    found: dict[str, tuple[int, str, tuple[int, int]]] = {}
    for image_id, row in rows.items():
        file_name, size = row["file_name"], (row["height"], row["width"])
        if not isinstance(file_name, str) or not all(type(v) is int and v > 0 for v in size):
            raise DataError(
                f"{path}, image {image_id}: expected file_name, height and width (above 0), got {file_name!r}, {size}"
            )
        stem = PurePosixPath(file_name.replace("\\", "/")).stem.removesuffix(".ome")
        if stem in found:
            raise DataError(f"{path}: the file names {found[stem][1]} and {file_name} have the same stem; rename one")
        found[stem] = (image_id, file_name, size)
    return dict(sorted(found.items()))
