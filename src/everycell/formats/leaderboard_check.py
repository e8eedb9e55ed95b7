"""What is wrong with a leaderboard file, entry by entry, as pycocotools and the id map see it."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from everycell.errors import DataError
from everycell.formats.leaderboard import read_leaderboard
from everycell.structures.rle import decode

# A network's mask may leave its box by the rounding of both to whole pixels.
BOX_TOLERANCE_PX = 2.0

_KEYS = ("image_id", "category_id", "bbox", "score", "segmentation")


@dataclass(frozen=True)
class LeaderboardCheck:
    """What was found in a leaderboard file.

    Attributes:
        faults: kind of fault → one text for each time it was met; empty for a valid file.
        cells_per_image: image id → number of entries; an image without any is not in it.
        cells_per_class: category id → number of entries.
    """

    faults: Mapping[str, tuple[str, ...]]
    cells_per_image: Mapping[int, int]
    cells_per_class: Mapping[int, int]


def check_leaderboard(
    path: Path, image_sizes: Mapping[int, tuple[int, int]], n_classes: int | None = None
) -> LeaderboardCheck:
    """Check `test-results.json`, alone or in its zip.

    Every code is unpacked by everycell first, because pycocotools trusts its input, then measured by pycocotools; a
    file without a fault is also loaded by it as results for the images of `image_sizes`.

    Args:
        path: the `.zip`, or the `.json` in it.
        image_sizes: (height, width) by image id, as the id map says.
        n_classes: category ids are 1 … n_classes; without an upper end when None.
    """
    faults: dict[str, list[str]] = defaultdict(list)
    try:
        entries = _load(path)
    except DataError as error:
        return LeaderboardCheck({"unusable file": (str(error),)}, {}, {})
    seen: dict[tuple[str, str], int] = {}
    for i, entry in enumerate(entries):
        for kind, text in (*_entry_faults(entry, image_sizes, n_classes), *_repeats(entry, i, seen)):
            faults[kind].append(f"entry {i}: {text}")
    if not faults:
        _load_with_pycocotools(entries, image_sizes)
    return LeaderboardCheck(
        {kind: tuple(texts) for kind, texts in faults.items()},
        _count(entries, "image_id"),
        _count(entries, "category_id"),
    )


def _load(path: Path) -> list[Any]:
    try:
        entries = json.loads(read_leaderboard(path) if path.suffix == ".zip" else path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot open {path}: {error.strerror or error}; check the path") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise DataError(f"{path} must hold a bare list of entries, got a {type(entries).__name__}")
    if not entries:
        raise DataError(f"{path} holds no cell at all, and pycocotools cannot load an empty list")
    return entries


def _entry_faults(
    entry: Any, image_sizes: Mapping[int, tuple[int, int]], n_classes: int | None
) -> Iterator[tuple[str, str]]:
    """Kind and text of each fault that one entry has on its own."""
    if not isinstance(entry, dict):
        yield "missing key", f"expected an object with {', '.join(_KEYS)}, got {entry!r:.40}"
        return
    if missing := [key for key in _KEYS if key not in entry]:
        yield "missing key", f"it lacks {', '.join(missing)}"
        return
    image_id, class_id, score = entry["image_id"], entry["category_id"], entry["score"]
    size = image_sizes.get(image_id) if type(image_id) is int else None
    if size is None:
        yield "unknown image id", f"image_id {image_id!r} is not in the id map"
    if type(class_id) is not int or class_id < 1 or (n_classes and class_id > n_classes):
        yield "category out of range", f"category_id must be 1 … {n_classes or 'K'}, got {class_id!r}"
    if not _is_number(score) or not 0 <= score <= 1:
        yield "score out of range", f"score must be a number in 0 … 1, got {score!r}"
    yield from _mask_faults(entry["segmentation"], entry["bbox"], size)


def _mask_faults(segmentation: Any, box: Any, size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    """Faults of mask and box; `size` is None where the image is unknown."""
    has_box = isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)) and min(box[2:]) > 0
    if not has_box:
        yield "bad bbox", f"bbox must be [x, y, width, height] with sizes above 0, got {box!r:.60}"
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        yield "no RLE", f"segmentation must be an RLE with size and counts, got {segmentation!r:.40}"
        return
    if not isinstance(segmentation["counts"], str):
        yield "counts not a string", f"counts must be a str, got a {type(segmentation['counts']).__name__}"
        return
    if size is None:
        return
    if segmentation["size"] != list(size):
        yield "wrong RLE size", f"the RLE's size must be {list(size)} (height, width), got {segmentation['size']!r:.40}"
        return
    try:
        decode(segmentation["counts"], size)
    except DataError as error:
        yield "damaged RLE", str(error)
        return
    if not coco_mask.area(segmentation):
        yield "empty mask", "the mask has no pixel"
    elif has_box and not _encloses(box, tight := coco_mask.toBbox(segmentation).tolist()):
        yield "bbox off the mask", f"bbox {box} must enclose the mask, which fills {tight} (x, y, width, height)"


def _encloses(outer: list[float], inner: list[float]) -> bool:
    """Whether the box `outer` holds the box `inner`, both xywh, but for the tolerance."""
    return all(
        outer[i] <= inner[i] + BOX_TOLERANCE_PX
        and outer[i] + outer[i + 2] >= inner[i] + inner[i + 2] - BOX_TOLERANCE_PX
        for i in (0, 1)
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _repeats(entry: Any, i: int, seen: dict[tuple[str, str], int]) -> Iterator[tuple[str, str]]:
    """Faults of an entry that was there before, whole or by its own `id`; remembers it in `seen`."""
    if not isinstance(entry, dict):
        return
    contents = {"duplicate entry": {key: entry.get(key) for key in _KEYS}}
    if "id" in entry:
        contents["duplicate id"] = entry["id"]
    for kind, content in contents.items():
        first = seen.setdefault((kind, json.dumps(content, sort_keys=True)), i)
        if first != i:
            yield kind, f"{'its id' if kind == 'duplicate id' else 'all of it'} is that of entry {first}"


def _load_with_pycocotools(entries: list[Any], image_sizes: Mapping[int, tuple[int, int]]) -> None:
    truth = COCO()
    truth.dataset = {
        "images": [{"id": key, "height": height, "width": width} for key, (height, width) in image_sizes.items()],
        "categories": [{"id": class_id} for class_id in sorted({entry["category_id"] for entry in entries})],
        "annotations": [],
    }
    with redirect_stdout(StringIO()):
        truth.createIndex()
        loaded = truth.loadRes(entries)
    assert len(loaded.getAnnIds()) == len(entries)


def _count(entries: list[Any], key: str) -> dict[int, int]:
    """How often each whole number is the value of `key`, ascending."""
    values = (entry.get(key) for entry in entries if isinstance(entry, dict))
    return dict(sorted(Counter(value for value in values if type(value) is int).items()))
