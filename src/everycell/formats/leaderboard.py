"""The leaderboard file: COCO results of all test images in one list, `test-results.json`, alone in a zip."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from everycell.errors import DataError
from everycell.files import atomic_write

LEADERBOARD_FILE = "test-results.zip"
LEADERBOARD_MEMBER = "test-results.json"
LEADERBOARD_SCORE_THRESH = 0.05
"""Average precision ranks cells by score, so weak ones belong in the file too."""


def write_leaderboard(entries: Iterable[dict[str, Any]], path: Path) -> None:
    """Write COCO entries (see `coco_results`) as `test-results.json` into the zip `path`.

    The zip holds no time of its own: equal entries give equal bytes.
    """
    member = zipfile.ZipInfo(LEADERBOARD_MEMBER)  # dated 1980-01-01
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o644 << 16  # else it unpacks to a file that nobody may read
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(member, orjson.dumps(list(entries)))


def read_leaderboard(path: Path) -> bytes:
    """The text of `test-results.json` in the zip `path`.

    Raises:
        DataError: no zip, damaged, or one that holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if names != [LEADERBOARD_MEMBER]:
                held = ", ".join(names[:5]) or "nothing"
                raise DataError(f"{path} must hold {LEADERBOARD_MEMBER} and nothing else, got {held}; zip it again")
            return archive.read(LEADERBOARD_MEMBER)
    except OSError as error:
        raise DataError(f"cannot open {path}: {error.strerror or error}; check the path") from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read the zip {path}: {error}; write it again") from error
