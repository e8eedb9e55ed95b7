"""What a prediction run did: `run.json` to resume from, and the same rows as `summary.csv` for people."""

from __future__ import annotations

import csv
import io
import json
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from everycell.errors import OutputError
from everycell.files import make_folder, write_bytes

_SAVE_EVERY_S = 5.0
_VERSIONS_OF = ("torch", "torchvision")
_BEFORE_CLASSES = ("image", "status", "n_cells")
_AFTER_CLASSES = (
    "cells_per_mm2",
    "area_mm2",
    "median_area_px",
    "median_area_um2",
    "height",
    "width",
    "mpp",
    "notes",
    "error",
)

Row = dict[str, Any]


class RunRecord:
    """The rows of a run, one per image, saved into its folder every few seconds and at the end, whatever happens.

    Attributes:
        rows: by stem; besides the columns of `summary.csv` a row holds the image's `path` and, once done, its `source`
            and the names of its `outputs`.
        resumed: whether an earlier run was taken up.
    """

    def __init__(self, folder: Path, made_by: dict[str, Any], class_names: Sequence[str], *, overwrite: bool) -> None:
        """Start a record, or take up the one in `folder`.

        Args:
            folder: the run's output folder; made when missing.
            made_by: everything that decides the results, as JSON values: settings, model, versions.
            class_names: one column of counts each.
            overwrite: forget an earlier run.

        Raises:
            OutputError: `folder` cannot be made, or holds a run made with other settings.
        """
        self.folder = folder
        self.made_by = json.loads(json.dumps(made_by))
        self.class_names = class_names
        self.rows: dict[str, Row] = {}
        self._start = self._saved = time.perf_counter()
        make_folder(folder)
        self.resumed = not overwrite and (folder / "run.json").exists()
        if self.resumed:
            self._take_up(folder / "run.json")

    def _take_up(self, path: Path) -> None:
        try:
            earlier = json.loads(path.read_bytes())
            made_by, self.rows = earlier["made_by"], {row["image"]: row for row in earlier["images"]}
        except (ValueError, KeyError, TypeError):
            raise OutputError(f"{path}: not the record of a run; use --overwrite or another folder") from None
        differ = {key for key in made_by | self.made_by if made_by.get(key) != self.made_by.get(key)} - {"device"}
        if differ:
            raise OutputError(
                f"{self.folder}: holds results made with other settings ({', '.join(sorted(differ))}); "
                "use --overwrite or another folder"
            )

    def is_done(self, stem: str, source: list[Any]) -> bool:
        """Whether the image was predicted from this `source`, and all that was written is still there."""
        row = self.rows.get(stem, {})
        if row.get("status") != "ok" or row["source"] != source:
            return False
        return all((self.folder / name).exists() for name in row["outputs"])

    def add(self, row: Row) -> None:
        """Set the row of `row["image"]`."""
        self.rows[row["image"]] = row
        if time.perf_counter() - self._saved > _SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write `run.json`."""
        rows = [self.rows[stem] for stem in sorted(self.rows)]
        record = {
            "made_by": self.made_by,
            "versions": {"python": platform.python_version()} | {name: version(name) for name in _VERSIONS_OF},
            "platform": platform.platform(),
            "saved": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self._start, 3),
            "n_images": len(rows),
            "n_failed": sum(row["status"] == "failed" for row in rows),
            "n_incomplete": sum(row["status"] == "incomplete" for row in rows),
            "n_cells": sum(row.get("n_cells", 0) for row in rows),
            "images": rows,
        }
        write_bytes(self.folder / "run.json", json.dumps(record, indent=1).encode())
        self._saved = time.perf_counter()

    def __enter__(self) -> Self:
        self.save()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.save()
        columns = [*_BEFORE_CLASSES, *(f"count_{name}" for name in self.class_names), *_AFTER_CLASSES]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows[stem] for stem in sorted(self.rows))
        write_bytes(self.folder / "summary.csv", text.getvalue().encode(errors="backslashreplace"))
