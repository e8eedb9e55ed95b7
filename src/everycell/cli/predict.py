"""`everycell predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from everycell.cli.settings import PredictSettings


def predict(
    inputs: Annotated[list[str], Parameter(metavar="INPUT")],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], metavar="OUT")],
    settings: Annotated[PredictSettings, Parameter(name="*")] = PredictSettings(),  # noqa: B008  (frozen)
    id_map: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    scheduler: Annotated[str | None, Parameter(metavar="ADDRESS")] = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Find and outline every cell in images and slides of any size.

    A run that was interrupted goes on where it stopped when the same command is given again.

    Args:
        inputs: image files, folders or quoted globs.
        output: folder for the results; made when missing.
        settings: how to predict.
        id_map: JSON file of image ids and sizes by file name, for the COCO files and the leaderboard.
        scheduler: a Dask scheduler, for example tcp://host:8786, whose workers find the cells.
        overwrite: predict every image again, and replace what is in the output folder.
    """
    # Imported here, so that help and wrong usage do not wait for torch.
    from everycell.cli.batch import run_batch
    from everycell.cli.leaderboard import prepare, write_run
    from everycell.datasets import read_id_map
    from everycell.io import find_images

    images = find_images(inputs)
    known = read_id_map(id_map) if id_map else None
    if "leaderboard" in settings.formats:
        settings = prepare(settings, known, {stem for stem, _ in images})
    rows = run_batch(images, output, settings, id_map=known, scheduler=scheduler, overwrite=overwrite)
    done = [row for row in rows if row["status"] != "failed"]
    kept = sum("kept" in row for row in rows)
    n_failed, n_incomplete = len(rows) - len(done), sum(row["status"] == "incomplete" for row in rows)
    print(
        f"{sum(row['n_cells'] for row in done):,} cells in {len(done):,} of {len(rows):,} images"
        + (f", {kept:,} of them kept from an earlier run" if kept else "")
        + (f"; {n_incomplete:,} incomplete" if n_incomplete else "")
        + (f"; {n_failed:,} failed" if n_failed else "")
        + f"; see {output / 'summary.csv'}"
    )
    if known and "leaderboard" in settings.formats:
        write_run(output, [row["image"] for row in done], known)
    return int(n_failed + n_incomplete > 0)
