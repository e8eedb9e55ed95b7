"""`everycell evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators
from rich.console import Console
from rich.progress import track

from everycell.cli.evaluation_tables import tables
from everycell.cli.settings import ClassNames
from everycell.errors import DataError
from everycell.evaluate import (
    Comparison,
    EvaluationResult,
    Evaluator,
    compare_all,
    compare_predictions,
    open_comparison,
    read_groups,
    usual_workers,
    worst_sheet,
)
from everycell.files import write_bytes
from everycell.io import read_image
from everycell.plot import save_png

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_NOTES = 5
_LENGTH = validators.Number(gt=0, lt=float("inf"))


def evaluate(
    *,
    truth: Annotated[Path, Parameter(metavar="DATA")],
    pred: Annotated[Path, Parameter(metavar="PATH")],
    against: Annotated[Path | None, Parameter(metavar="PATH")] = None,
    json: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    html: Annotated[Path | None, Parameter(metavar="FILE.html", validator=validators.Path(ext="html"))] = None,
    worst: Annotated[Path | None, Parameter(metavar="FILE.png", validator=validators.Path(ext="png"))] = None,
    score_thresh: Annotated[float | None, Parameter(metavar="X", validator=validators.Number(gte=0, lte=1))] = None,
    radius_um: Annotated[float | None, Parameter(metavar="X", validator=_LENGTH)] = None,
    tolerance_um: Annotated[float | None, Parameter(metavar="X", validator=_LENGTH)] = None,
    groups: Annotated[Path | None, Parameter(metavar="FILE.csv")] = None,
    classes: ClassNames = None,
    ignore_classes: Annotated[bool, Parameter(negative="")] = False,
    id_map: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    workers: Annotated[int | None, Parameter(metavar="N", validator=validators.Number(gte=1))] = None,
) -> None:
    """Compare predicted cells with the truth.

    Args:
        truth: data set folder, or true cells in any format that is read as a prediction.
        pred: predicted cells: label images, COCO, GeoJSON or .mat files named like the images, or one file of all.
        against: another prediction of the same images, to compare --pred with it.
        json: file for all figures.
        html: page with all figures and pictures, an .html file.
        worst: picture of the worst images and cells, a .png file; needs a data set folder, for its images.
        score_thresh: leave out cells scoring less, except for what looks at all scores; none by default.
        radius_um: largest distance of centroids for F_d and F_c, in µm; 12 px by default.
        tolerance_um: largest distance of outlines that agree, in µm; 2 px by default.
        groups: CSV file with the columns image and group, such as patients, for intervals and PanNuke's averages.
        classes: names of classes 1, 2 and so on, separated by commas, where neither side numbers them.
        ignore_classes: take all cells for one class, as where prediction and truth have different classes.
        id_map: JSON file of image ids by file name, for one COCO results file of all images.
        workers: processes; by default one for each core, or fewer for few images.
    """
    opened = partial(open_comparison, truth, id_map=id_map, classes=classes or (), ignore_classes=ignore_classes)
    comparison = opened(pred)
    other = opened(against) if against is not None else None
    if worst is not None and not comparison.images:
        raise DataError(f"--worst needs the images, not the truth alone: {truth}; give a data set folder")
    make = partial(Evaluator, score_thresh=score_thresh, radius_um=radius_um, tolerance_um=tolerance_um)
    evaluator = make(
        comparison.class_names,
        groups=read_groups(groups, comparison.names) if groups is not None else comparison.groups or None,
        keep_masks=worst is not None or html is not None,
    )
    _compare_all(evaluator, comparison, workers)
    result = evaluator.result()
    notes = comparison.notes + result.notes
    if other is not None:
        first = make(other.class_names, keep_masks=False)
        _compare_all(first, other, workers)
        paired = compare_predictions(first.images, evaluator.images, (str(against), str(pred)), evaluator.groups)
        result = replace(result, comparison=paired)
        noted = (*other.notes, *(note for image in first.images for note in image.notes))
        notes += tuple(f"{against}: {note}" for note in noted)
    result = replace(result, notes=notes)
    if json is not None:
        write_bytes(json, result.to_json().encode())
    title = f"{pred.name} against {truth.name}"
    if worst is not None:
        _draw_worst(evaluator, comparison, title, worst)
    if html is not None:
        inputs = {"Truth": truth, "Prediction": pred} | ({"Second prediction": against} if against is not None else {})
        _write_page(result, evaluator, comparison, title, inputs, html)
    Console().print(*tables(result))
    for note in notes[:_MAX_NOTES]:
        print(f"Note: {note}")
    if len(notes) > _MAX_NOTES:
        print(f"Note: {len(notes) - _MAX_NOTES} more; --json FILE holds them all")


def _compare_all(evaluator: Evaluator, comparison: Comparison, workers: int | None) -> None:
    console = Console(stderr=True)
    total = len(comparison)
    images = compare_all(comparison, evaluator.settings, workers or usual_workers(total))
    for image in track(images, "Comparing", total, console=console, transient=True, disable=not console.is_terminal):
        evaluator.collect(image)


def _draw_worst(evaluator: Evaluator, comparison: Comparison, title: str, path: Path) -> None:
    save_png(worst_sheet(evaluator.images, _pixel_reader(comparison), title=title), path)


def _write_page(
    result: EvaluationResult,
    evaluator: Evaluator,
    comparison: Comparison,
    title: str,
    inputs: Mapping[str, Path],
    path: Path,
) -> None:
    from everycell.report import render_evaluation  # brings in torch, which figures can do without

    read_pixels = _pixel_reader(comparison) if comparison.images else None
    page = render_evaluation(result, evaluator.images, read_pixels, title=title, inputs=inputs)
    write_bytes(path, page.encode())


def _pixel_reader(comparison: Comparison) -> Callable[[str], NDArray[np.uint8]]:
    """What gives an image's pixels by the image's name."""
    return lambda name: read_image(comparison.images[name]).pixels
