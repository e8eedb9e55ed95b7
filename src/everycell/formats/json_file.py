"""JSON files, and which of the known formats one holds."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson

from everycell.errors import DataError

JsonKind = Literal["coco results", "coco instances", "geojson", "hovernet"]

_GZIP = b"\x1f\x8b"


class JsonList:
    """A list that is written entry by entry, so that it need not be in memory."""

    def __init__(self, file: BinaryIO, head: bytes = b"", tail: bytes = b"") -> None:
        """Begin the list in `file`, with `head` before it and `tail` after it."""
        self._file, self._tail, self._separator = file, tail, b""
        file.write(head + b"[")

    def extend(self, entries: Iterable[Any]) -> None:
        """Write `entries`."""
        for entry in entries:
            self._file.write(self._separator + orjson.dumps(entry))
            self._separator = b","

    def end(self) -> None:
        """End the list."""
        self._file.write(b"]" + self._tail)


def read_json(path: Path, what: str = "JSON file") -> Any:
    """The content of a file, compressed by gzip or not.

    NaN, which is no JSON but met in it, comes as a float for the caller to refuse.

    Raises:
        DataError: the file cannot be opened, is empty, or is no JSON; `what` names it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the {what} {path}: {error.strerror}; check the path") from error
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"cannot read the {what} {path}: its gzip data is damaged ({error}); copy it again"
            ) from error
    return parse_json(data, path, what)


def parse_json(data: bytes, path: Path, what: str) -> Any:
    """The same for the bytes of the file `path`, or of one inside it."""
    if not data.strip():
        raise DataError(f"cannot read the {what} {path}: it is empty; an image without cells has an empty list, []")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot read the {what} {path}: {error}") from error


def json_kind(content: Any) -> JsonKind | None:
    """What the content of a JSON file is, None for none of the known formats; an empty list is COCO results."""
    if isinstance(content, dict):
        if {"images", "annotations"} <= content.keys():
            return "coco instances"
        if isinstance(content.get("nuc"), dict):
            return "hovernet"
        return "geojson" if isinstance(content.get("features"), list) else None
    if not isinstance(content, list):
        return None
    first = content[0] if content else {"image_id": None}
    if not isinstance(first, dict):
        return None
    if "image_id" in first:
        return "coco results"
    return "geojson" if first.get("type") == "Feature" else None
