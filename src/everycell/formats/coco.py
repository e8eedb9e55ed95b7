"""COCO results: a bare JSON list with one entry for each cell (https://cocodataset.org/#format-results)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from everycell.errors import DataError, UnknownSizeError
from everycell.files import atomic_write
from everycell.formats.classes import UNNAMED, Classes
from everycell.formats.coco_masks import decode_segmentation
from everycell.formats.json_file import JsonList, parse_json, read_json
from everycell.formats.leaderboard import read_leaderboard
from everycell.formats.stream import AtomicWriter
from everycell.structures import Instances, MaskCrops
from everycell.structures.rle import encode

if TYPE_CHECKING:
    import pandas as pd

_WHAT = "COCO results"


def coco_results(instances: Instances, image_id: int) -> list[dict[str, Any]]:
    """Entries of one image: `bbox` is xywh in px (to 0.001), `counts` of `segmentation` a compressed RLE string."""
    boxes = instances.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    columns = (instances.class_ids.tolist(), boxes.round(3).tolist(), encode(instances.masks, instances.image_size))
    return [
        {
            "image_id": image_id,
            "category_id": class_id,
            "bbox": box,
            # The shortest text that gives the same float32 back.
            "score": float(str(score)),
            "segmentation": {"size": list(instances.image_size), "counts": counts},
        }
        for score, class_id, box, counts in zip(instances.scores, *columns, strict=True)
    ]


class CocoWriter(AtomicWriter):
    """Writes a results list entry by entry."""

    def __init__(self, path: Path, image_id: int = 1) -> None:
        """Begin the file `path` for the image `image_id`."""
        super().__init__(atomic_write(path))
        self._image_id = image_id
        file = self._open_file()
        with self._or_give_up():
            self._entries = JsonList(file)

    def _write(self, batch: Instances, table: pd.DataFrame | None) -> None:
        self._entries.extend(coco_results(batch, self._image_id))

    def _finish(self) -> None:
        self._entries.end()


def write_coco(instances: Instances, path: Path, image_id: int = 1) -> None:
    """Write the cells of one image as a results list."""
    with CocoWriter(path, image_id) as writer:
        writer.write(instances)


def read_coco(
    path: Path, image_sizes: Mapping[int, tuple[int, int]] | None = None, classes: Classes = UNNAMED
) -> dict[int, Instances]:
    """Read a results list.

    Args:
        path: the file; a `.zip` is a leaderboard file.
        image_sizes: (height, width) for each image id that may appear; those that the file itself says when None.
        classes: what the category ids stand for.

    Returns:
        Cells for each id of `image_sizes`, in the order of the file; an id without entries has zero cells.

    Raises:
        DataError: an entry is missing something, does not fit the images, or occurs twice.
    """
    by_image = group_entries(read_entries(path), path, image_sizes)
    if image_sizes is None:
        image_sizes = {image_id: own_size(entries, path) for image_id, entries in by_image.items()}
    return {image_id: parse_entries(by_image[image_id], size, classes, path) for image_id, size in image_sizes.items()}


def read_entries(path: Path) -> list[Any]:
    """The list in a results file or in a leaderboard `.zip`, unchecked."""
    entries = parse_json(read_leaderboard(path), path, _WHAT) if path.suffix == ".zip" else read_json(path, _WHAT)
    if not isinstance(entries, list):
        raise DataError(f"COCO results are a bare list of entries, got a {type(entries).__name__}: {path}")
    return entries


def group_entries(
    entries: list[Any], path: Path, image_ids: Collection[int] | None = None
) -> dict[int, dict[int, dict[str, Any]]]:
    """Image id → position in the file → entry, for each of `image_ids`, or for those in the file; masks are not read.

    Raises:
        DataError: an entry lacks a key, is for another image, or has the `id` of another one.
    """
    owner: dict[str, int] = {}
    found: dict[int, dict[int, dict[str, Any]]] = {image_id: {} for image_id in image_ids or ()}
    for i, entry in enumerate(entries):
        where = f"{path}, entry {i}"
        if not isinstance(entry, dict) or not {"image_id", "category_id", "score", "segmentation"} <= entry.keys():
            raise DataError(f"{where}: expected image_id, category_id, score and segmentation")
        image_id = entry["image_id"]
        if type(image_id) is not int:
            raise DataError(f"{where}: image_id must be a whole number, got {image_id!r}")
        if image_ids is not None and image_id not in found:
            raise DataError(f"{where}: image_id must be one of the {len(found)} known images, got {image_id}")
        if "id" in entry and (other := owner.setdefault(repr(entry["id"]), i)) != i:
            raise DataError(f"{where}: id {entry['id']!r} is that of entry {other} already; ids must be distinct")
        found.setdefault(image_id, {})[i] = entry
    return found


def own_size(entries: Mapping[int, dict[str, Any]], path: Path) -> tuple[int, int]:
    """(height, width) of the image that `entries` are for: that of the first mask.

    Raises:
        UnknownSizeError: there is no entry, or the first one is no RLE with a size.
    """
    if not entries:
        raise UnknownSizeError(f"{path} does not say how large its image is; name the image or its size")
    i, entry = next(iter(entries.items()))
    size = entry["segmentation"].get("size") if isinstance(entry["segmentation"], dict) else None
    if not isinstance(size, list) or len(size) != 2 or not all(type(value) is int and value > 0 for value in size):
        raise UnknownSizeError(
            f"{path}, entry {i}: segmentation must hold size, [height, width] in whole numbers, got {size!r}; "
            "name the image or its size"
        )
    return size[0], size[1]


def parse_entries(
    entries: Mapping[int, dict[str, Any]],
    size: tuple[int, int],
    classes: Classes,
    path: Path,
    mpp: float | None = None,
) -> Instances:
    """The cells of one image.

    Args:
        entries: position in the file → entry.
        size: (height, width) of the image.
        classes: what the category ids stand for.
        path: of the file, for messages.
        mpp: micrometres per pixel of the image.
    """
    cells = []
    first: dict[str, int] = {}
    for i, entry in entries.items():
        try:
            cells.append(_parse(entry, size, classes))
        except DataError as error:
            raise DataError(f"{path}, entry {i} (image_id {entry['image_id']}): {error}") from None
        if (same := first.setdefault(repr(entry), i)) != i:
            raise DataError(f"{path}: entries {same} and {i} (image_id {entry['image_id']}) are the same; keep one")
    origins = np.array([cell["origin"] for cell in cells], np.int64).reshape(-1, 2)
    return Instances(
        boxes=np.array([cell["box"] for cell in cells], np.float32).reshape(-1, 4),
        scores=np.array([cell["score"] for cell in cells], np.float32),
        class_ids=np.array([cell["class_id"] for cell in cells], np.int64),
        masks=MaskCrops.from_crops(origins, [cell["crop"] for cell in cells]),
        image_size=size,
        mpp=mpp,
        class_names=classes.names,
    )


def highest_category(entries: Mapping[int, dict[str, Any]]) -> int:
    """The highest category id, 0 without entries."""
    return max((entry["category_id"] for entry in entries.values() if type(entry["category_id"]) is int), default=0)


def _parse(entry: dict[str, Any], size: tuple[int, int], classes: Classes) -> dict[str, Any]:
    class_id, score = classes.by_id(entry["category_id"], "category_id"), entry["score"]
    if type(score) not in (int, float) or not 0 <= score <= 1:
        raise DataError(f"score must be a number in 0 … 1, got {score!r}")
    (x, y), crop = decode_segmentation(entry["segmentation"], size)
    box = entry.get("bbox") or [x, y, crop.shape[1], crop.shape[0]]
    numbers = isinstance(box, list) and all(type(v) in (int, float) and math.isfinite(v) for v in box)
    if not numbers or len(box) != 4 or min(box[2:]) < 0:
        raise DataError(f"bbox must be x, y, width, height with sizes of 0 or above, got {box!r}")
    box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    return {"class_id": class_id, "score": score, "box": box, "origin": (x, y), "crop": crop}
