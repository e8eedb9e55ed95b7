"""The leaderboard file on the command line: `predict` and `convert` write and check it, `validate` only checks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from everycell.cli.settings import PredictSettings
from everycell.datasets import ImageId
from everycell.errors import ConfigError, DataError
from everycell.formats import LEADERBOARD_FILE, LEADERBOARD_SCORE_THRESH, check_leaderboard, write_leaderboard

_SHOWN = 5


def prepare(settings: PredictSettings, id_map: Mapping[str, ImageId] | None, stems: Set[str]) -> PredictSettings:
    """Settings of a prediction that ends in a leaderboard file; says what is unlike other predictions.

    Raises:
        ConfigError: there is no id map.
    """
    if id_map is None:
        raise ConfigError("--formats leaderboard needs the image ids: give --id-map FILE")
    absent = [entry.file_name for stem, entry in id_map.items() if stem not in stems]
    if absent:
        note(f"{len(absent)} of {len(id_map)} images of the id map are not among the inputs ({some(absent)})")
    if settings.score_thresh is not None:
        return settings
    note(
        f"keeping cells that score at least {LEADERBOARD_SCORE_THRESH}, as average precision ranks weak cells too; "
        "--score-thresh X changes that"
    )
    return replace(settings, score_thresh=LEADERBOARD_SCORE_THRESH)


def write_run(folder: Path, stems: Iterable[str], id_map: Mapping[str, ImageId]) -> None:
    """Join the `.coco.json` files of a run into its leaderboard file, and check it."""
    entries: list[dict[str, Any]] = []
    for path in (folder / f"{stem}.coco.json" for stem in stems):
        try:
            entries += orjson.loads(path.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path} was changed after the run; delete it, then give the same command again") from error
    write_checked(entries, folder / LEADERBOARD_FILE, id_map)


def write_checked(
    entries: Iterable[dict[str, Any]], path: Path, id_map: Mapping[str, ImageId], n_classes: int | None = None
) -> None:
    """Write a leaderboard file, then `check` it."""
    write_leaderboard(entries, path)
    check(path, id_map, n_classes)


def check(path: Path, id_map: Mapping[str, ImageId], n_classes: int | None) -> None:
    """Print what a leaderboard file holds and what is wrong with it.

    Raises:
        DataError: something is wrong.
    """
    found = check_leaderboard(path, {entry.id: (entry.height, entry.width) for entry in id_map.values()}, n_classes)
    report_faults(path, found.faults)
    without = [entry.file_name for entry in id_map.values() if entry.id not in found.cells_per_image]
    classes = ", ".join(f"{class_id}: {n:,}" for class_id, n in found.cells_per_class.items())
    n_with = len(id_map) - len(without)
    print(f"{path} is valid: {sum(found.cells_per_image.values()):,} cells in {n_with} of {len(id_map)} images")
    print(f"Cells by class: {classes}")
    if without:
        print(f"Note: {len(without)} of {len(id_map)} images have no cell ({some(without)})")


def report_faults(path: Path, faults: Mapping[str, Sequence[str]]) -> None:
    """Print up to five faults of each kind.

    Raises:
        DataError: there are faults.
    """
    for kind, texts in faults.items():
        print(f"{kind}: {len(texts):,}", *texts[:_SHOWN], sep="\n  ")
        if len(texts) > _SHOWN:
            print(f"  … {len(texts) - _SHOWN:,} more")
    if faults:
        n = sum(map(len, faults.values()))
        raise DataError(f"{path} has {n:,} fault{'s' * (n > 1)}, listed above; mend what wrote it")


def note(text: str) -> None:
    """Say something on stderr that is no error."""
    print(f"everycell: note: {text}", file=sys.stderr)


def some(names: Sequence[str]) -> str:
    """The first five names."""
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
