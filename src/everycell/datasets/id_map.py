"""Id map: the numbers under which a benchmark knows its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import orjson

from everycell.errors import DataError
from everycell.io import image_stem


class ImageId(NamedTuple):
    """One image of an id map: its file name, its id, and its height and width in px."""

    file_name: str
    id: int
    height: int
    width: int


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
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise DataError(f'{where}: expected an object with "file_name", got {row!r}')
    for key in ("id", "height", "width"):
        value = row.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or (key != "id" and value < 1):
            raise DataError(
                f"{where}: {key!r} must be a whole number{' above 0' if key != 'id' else ''}, got {value!r}"
            )
    return ImageId(row["file_name"], row["id"], row["height"], row["width"])
