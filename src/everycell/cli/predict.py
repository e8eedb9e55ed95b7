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
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Find and outline every cell in images, folders of images or globs.

    A run that was interrupted goes on where it stopped when the same command is given again.

    Args:
        inputs: image files, folders or quoted globs.
        output: folder for the results; made when missing.
        settings: how to predict.
        id_map: JSON file of image ids and sizes by file name, for the COCO files and the leaderboard.
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
    rows = run_batch(images, output, settings, id_map=known, overwrite=overwrite)
    done = [row for row in rows if row["status"] == "ok"]
    kept = sum("kept" in row for row in rows)
    n_failed = len(rows) - len(done)
    print(
        f"{sum(row['n_cells'] for row in done):,} cells in {len(done):,} of {len(rows):,} images"
        + (f", {kept:,} of them kept from an earlier run" if kept else "")
        + (f"; {n_failed:,} failed" if n_failed else "")
        + f"; see {output / 'summary.csv'}"
    )
    if known and "leaderboard" in settings.formats:
        write_run(output, [row["image"] for row in done], known)
    return int(n_failed > 0)
