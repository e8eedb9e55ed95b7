"""Which images belong together, such as those of one patient."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from everycell.errors import DataError

_COLUMNS = ("image", "group")


def read_groups(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Group of each image, by name, from a CSV file with the columns `image` and `group`; others do not matter.

    Args:
        path: the file.
        names: of the images; all must be in the file, which may hold others too.

    Raises:
        DataError: it cannot be read, lacks a column or an image, or gives an image two groups.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            if not set(_COLUMNS) <= set(columns):
                raise DataError(
                    f"{path}: expected the columns image,group in the first line, got {','.join(columns)!r}"
                )
            rows = [(row["image"], row["group"]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the groups in {path}: {error}; expected a CSV file in UTF-8") from error
    groups: dict[str, str] = {}
    for image, group in rows:
        if not group:
            raise DataError(f"{path}: expected a group for every image, got none for {image!r}")
        if groups.setdefault(image, group) != group:
            raise DataError(f"{path}: image {image!r} must have one group, got {groups[image]!r} and {group!r}")
    missing = [name for name in names if name not in groups]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(names)} images have no group ({', '.join(missing[:5])}"
            f"{', …' * (len(missing) > 5)}); name images as their files, without suffix"
        )
    return {name: groups[name] for name in names}
