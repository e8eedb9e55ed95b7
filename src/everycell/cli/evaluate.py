"""`everycell evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators
from rich.console import Console
from rich.progress import track

from everycell.cli.evaluation_tables import tables
from everycell.datasets import open_dataset
from everycell.errors import DataError
from everycell.evaluate import Evaluator, open_comparison, worst_sheet
from everycell.files import write_bytes
from everycell.io import read_image
from everycell.plot import save_png

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_NOTES = 5


def evaluate(
    *,
    truth: Annotated[Path, Parameter(metavar="DATA")],
    pred: Annotated[Path, Parameter(metavar="PATH")],
    json: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    worst: Annotated[Path | None, Parameter(metavar="FILE.png", validator=validators.Path(ext="png"))] = None,
    score_thresh: Annotated[float | None, Parameter(metavar="X", validator=validators.Number(gte=0, lte=1))] = None,
    id_map: Annotated[Path | None, Parameter(metavar="FILE")] = None,
) -> None:
    """Compare predicted cells with the truth.

    Args:
        truth: data set folder, or folder of label images.
        pred: folder of .coco.json, .geojson or label images named like the images, or one COCO results file.
        json: file for all figures.
        worst: picture of the worst images and cells, a .png file; needs a data set folder, for its images.
        score_thresh: leave out cells scoring less, except for average precision; none by default.
        id_map: JSON file of image ids by file name, for one COCO results file of all images.
    """
    comparison = open_comparison(truth, pred, id_map)
    read_pixels = _pixel_reader(truth) if worst is not None else None
    evaluator = Evaluator(comparison.class_names, score_thresh=score_thresh)
    progress = Console(stderr=True)
    for image in track(comparison, "Comparing", console=progress, transient=True, disable=not progress.is_terminal):
        evaluator.add(*image)
    result = evaluator.result()
    result = replace(result, notes=comparison.notes + result.notes)
    if json is not None:
        write_bytes(json, result.to_json().encode())
    if worst is not None and read_pixels is not None:
        save_png(worst_sheet(evaluator.images, read_pixels, title=f"{pred} against {truth}"), worst)
    Console().print(*tables(result))
    for note in result.notes[:_MAX_NOTES]:
        print(f"Note: {note}")
    if len(result.notes) > _MAX_NOTES:
        print(f"Note: {len(result.notes) - _MAX_NOTES} more; --json FILE holds them all")


def _pixel_reader(truth: Path) -> Callable[[str], NDArray[np.uint8]]:
    """What gives an image's pixels by the image's name."""
    try:
        dataset = open_dataset(truth)
    except DataError as error:
        raise DataError(f"--worst needs the images, not label images alone: {error}") from error
    paths = {name: dataset.image_path(i) for i, name in enumerate(dataset.names)}
    return lambda name: read_image(paths[name]).pixels
