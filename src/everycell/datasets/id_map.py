"""Id map: the numbers under which a benchmark knows its images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from everycell.errors import DataError
from everycell.io import image_stem, read_raster


class ImageId(NamedTuple):
    """One image of an id map: its file name, its id, and its height and width in px."""

    file_name: str
    id: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), px."""
        return self.height, self.width

    def size_fault(self, path: Path, size: tuple[int, int]) -> str | None:
        """What to say of the image in `path` unless its `size` (height, width), px, is that of this entry."""
        if size == self.size:
            return None
        expected, got = (f"{height} × {width}" for height, width in (self.size, size))
        return f"{path} is {got} px, but the id map says {expected} (height × width); is it another image?"


def read_id_map(path: str | Path) -> dict[str, ImageId]:
    """Read `[{"file_name": …, "id": …, "height": …, "width": …}, …]`, keyed by the file names' stems.

    Raises:
        DataError: not such a list, or a stem or an id occurs twice.
    """
    path = Path(path)
    try:
        rows = orjson.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot open id map {path}: {error.strerror}; check the path") from error
    except orjson.JSONDecodeError as error:
        raise DataError(f"id map {path} is not JSON: {error}") from error
    if not isinstance(rows, list):
        raise DataError(f'id map {path} must be a list of {{"file_name", "id", "height", "width"}}')
    found: dict[str, ImageId] = {}
    owner: dict[int, str] = {}
    for number, row in enumerate(rows, start=1):
        entry = _entry(row, f"id map {path}, entry {number}")
        stem = image_stem(Path(entry.file_name))
        if stem in found:
            raise DataError(f"id map {path}, entry {number}: the stem {stem!r} occurs twice; keep one")
        if entry.id in owner:
            raise DataError(f"id map {path}, entry {number}: id {entry.id} belongs to {owner[entry.id]!r} already")
        found[stem] = entry
        owner[entry.id] = stem
    return found


def _entry(row: Any, where: str) -> ImageId:
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with {', '.join(ImageId._fields)}, got {row!r}")
    if missing := [key for key in ImageId._fields if key not in row]:
        raise DataError(f"{where}: expected an object with {', '.join(ImageId._fields)}; it lacks {', '.join(missing)}")
    if not isinstance(row["file_name"], str):
        raise DataError(f"{where}: 'file_name' must be a string, got {row['file_name']!r}")
    for key in ("id", "height", "width"):
        value = row[key]
        if not isinstance(value, int) or isinstance(value, bool) or (key != "id" and value < 1):
            raise DataError(
                f"{where}: {key!r} must be a whole number{' above 0' if key != 'id' else ''}, got {value!r}"
            )
    return ImageId(row["file_name"], row["id"], row["height"], row["width"])


def id_map_faults(id_map: Mapping[str, ImageId], images: Mapping[str, Path]) -> dict[str, list[str]]:
    """How an id map and the image files on disk differ.

    Args:
        id_map: entries by stem.
        images: files by stem.

    Returns:
        kind of fault → one text for each entry or file; empty where they agree.

    Raises:
        DataError: an image cannot be read.
    """
    faults = {
        "entry without image file": [entry.file_name for stem, entry in id_map.items() if stem not in images],
        "image file without entry": [str(path) for stem, path in images.items() if stem not in id_map],
        "wrong image size": [
            fault
            for stem, path in images.items()
            if stem in id_map and (fault := id_map[stem].size_fault(path, read_raster(path).size))
        ],
    }
    return {kind: texts for kind, texts in faults.items() if texts}
