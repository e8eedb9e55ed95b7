"""`everycell validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from everycell.cli.leaderboard import check, report_faults
from everycell.datasets import id_map_faults, read_id_map
from everycell.io import find_images


def validate(
    file: Annotated[Path, Parameter(metavar="FILE")],
    /,
    *,
    id_map: Annotated[Path, Parameter(metavar="FILE")],
    images: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    n_classes: Annotated[int, Parameter(validator=validators.Number(gte=1), metavar="K")] = 4,
) -> None:
    """Check a leaderboard file against its id map, with pycocotools.

    Lists what is wrong, up to five faults of each kind, and then ends with 1. Entries count from 0.

    Args:
        file: test-results.zip, or the test-results.json in it.
        id_map: JSON file of image ids and sizes by file name.
        images: folder of the test images, to check the sizes in the id map as well.
        n_classes: highest category id.
    """
    known = read_id_map(id_map)
    if images is not None:
        report_faults(id_map, id_map_faults(known, dict(find_images([images]))))
    check(file, known, n_classes)
