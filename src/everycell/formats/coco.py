"""COCO results: a bare JSON list with one entry for each cell (https://cocodataset.org/#format-results)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from everycell.errors import DataError
from everycell.files import write_bytes
from everycell.formats.leaderboard import read_leaderboard
from everycell.structures import Instances, MaskCrops
from everycell.structures.rle import decode, encode


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


def write_coco(instances: Instances, path: Path, image_id: int = 1) -> None:
    """Write the cells of one image as a results list."""
    write_bytes(path, orjson.dumps(coco_results(instances, image_id)))


def read_coco(
    path: Path, image_sizes: Mapping[int, tuple[int, int]] | None = None, class_names: Sequence[str] = ()
) -> dict[int, Instances]:
    """Read a results list.

    Args:
        path: the file; a `.zip` is a leaderboard file.
        image_sizes: (height, width) for each image id that may appear; those that the file itself says when None.
        class_names: names of categories 1 … K; when given, a category above K is an error.

    Returns:
        Cells for each id of `image_sizes`, in the order of the file; an id without entries has zero cells.

    Raises:
        DataError: an entry is missing something, or does not fit the images.
    """
    try:
        entries = json.loads(read_leaderboard(path) if path.suffix == ".zip" else path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the COCO results {path}: {error}") from error
    if not isinstance(entries, list):
        raise DataError(f"COCO results are a bare list of entries, got a {type(entries).__name__}: {path}")
    image_sizes = _own_sizes(entries, path) if image_sizes is None else image_sizes
    found: dict[int, list[dict[str, Any]]] = {image_id: [] for image_id in image_sizes}
    for i, entry in enumerate(entries):
        try:
            found[_image_id(entry, image_sizes)].append(_parse(entry, image_sizes, len(class_names)))
        except DataError as error:
            raise DataError(f"{path}, entry {i}: {error}") from None
    return {image_id: _join(found[image_id], size, class_names) for image_id, size in image_sizes.items()}


def _own_sizes(entries: list[Any], path: Path) -> dict[int, tuple[int, int]]:
    """Image id → (height, width) of its first entry."""
    sizes: dict[int, tuple[int, int]] = {}
    for i, entry in enumerate(entries):
        try:
            image_id, (height, width) = entry["image_id"], entry["segmentation"]["size"]
        except (TypeError, ValueError, LookupError):
            raise DataError(f"{path}, entry {i}: expected image_id and segmentation with size and counts") from None
        if not all(type(value) is int for value in (image_id, height, width)) or min(height, width) < 1:
            raise DataError(f"{path}, entry {i}: expected an image_id and a size [height, width] in whole numbers")
        sizes.setdefault(image_id, (height, width))
    return sizes


def _image_id(entry: Any, image_sizes: Mapping[int, tuple[int, int]]) -> int:
    if not isinstance(entry, dict) or not {"image_id", "category_id", "score", "segmentation"} <= entry.keys():
        raise DataError("expected image_id, category_id, score and segmentation")
    image_id = entry["image_id"]
    if type(image_id) is not int or image_id not in image_sizes:
        raise DataError(f"image_id must be one of the {len(image_sizes)} known images, got {image_id!r}")
    return image_id


def _parse(entry: dict[str, Any], image_sizes: Mapping[int, tuple[int, int]], n_classes: int) -> dict[str, Any]:
    class_id, score, segmentation = entry["category_id"], entry["score"], entry["segmentation"]
    size = image_sizes[entry["image_id"]]
    if type(class_id) is not int or class_id < 1 or (n_classes and class_id > n_classes):
        raise DataError(f"category_id must be 1 … {n_classes or 'K'}, got {class_id!r}")
    if type(score) not in (int, float) or not 0 <= score <= 1:
        raise DataError(f"score must be a number in 0 … 1, got {score!r}")
    if not isinstance(segmentation, dict) or not isinstance(segmentation.get("counts"), str):
        raise DataError("segmentation must be a compressed RLE with size and counts (a string)")
    if segmentation.get("size") != list(size):
        raise DataError(f"segmentation size must be {list(size)} (height, width), got {segmentation.get('size')!r}")
    (x, y), crop = decode(segmentation["counts"], size)
    box = entry.get("bbox") or [x, y, crop.shape[1], crop.shape[0]]
    if len(box) != 4 or not all(type(v) in (int, float) and math.isfinite(v) for v in box) or min(box[2:]) < 0:
        raise DataError(f"bbox must be x, y, width, height with sizes of 0 or above, got {box!r}")
    box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    return {"class_id": class_id, "score": score, "box": box, "origin": (x, y), "crop": crop}


def _join(cells: list[dict[str, Any]], size: tuple[int, int], class_names: Sequence[str]) -> Instances:
    origins = np.array([cell["origin"] for cell in cells], np.int64).reshape(-1, 2)
    return Instances(
        boxes=np.array([cell["box"] for cell in cells], np.float32).reshape(-1, 4),
        scores=np.array([cell["score"] for cell in cells], np.float32),
        class_ids=np.array([cell["class_id"] for cell in cells], np.int64),
        masks=MaskCrops.from_crops(origins, [cell["crop"] for cell in cells]),
        image_size=size,
        class_names=tuple(class_names),
    )
