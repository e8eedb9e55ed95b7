"""`everycell anchors`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import orjson
from cyclopts import Parameter, validators
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from everycell.cli.train import open_folders
from everycell.config import ModelSettings
from everycell.datasets import Dataset
from everycell.errors import DataError
from everycell.evaluate.anchors import SUGGESTED, AnchorFit, Recall, fit_anchors, recall_by_size
from everycell.files import write_bytes
from everycell.models.anchors import TrueBoxes
from everycell.plot import save_png
from everycell.plot.anchors import plot_coverage
from everycell.predict import Model, load_model
from everycell.predict.proposals import trace_cells
from everycell.train import PRESETS, get_preset

_STEPS = ("Anchors", "Candidates", "After NMS", "Proposals")


def anchors(
    data: Annotated[list[Path], Parameter(metavar="DATA")],
    /,
    *,
    preset: Annotated[str, Parameter(metavar="LIST")] = ",".join(PRESETS),
    magnification: Annotated[float | None, Parameter(metavar="X", validator=validators.Number(gt=0, lte=16))] = None,
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    json: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    plot: Annotated[Path | None, Parameter(metavar="FILE.png", validator=validators.Path(ext="png"))] = None,
    limit: Annotated[int | None, Parameter(metavar="N")] = None,
    device: str = "auto",
) -> None:
    """Measure how well anchors fit the cells of a data set, and suggest sizes that fit better.

    Args:
        data: folders that directly hold the samples; several are joined.
        preset: presets whose anchors are measured, separated by commas.
        magnification: network pixels for each image pixel, in place of each preset's own scale.
        model: also follow the cells through the proposals of this model, a name or a file.
        json: file for all figures.
        plot: picture of the share of cells covered, over IoU.
        limit: use only the first N images.
        device: where the model runs: auto, cpu, cuda or mps.
    """
    scales = _by_scale(preset.split(","), magnification)
    network = None if model is None else load_model(model, device=device)
    dataset = open_folders(data, limit)
    truths, covered = _read(dataset, network)
    sides = np.concatenate([truth.sides() for truth in truths])
    if not len(sides):
        raise DataError(
            f"{', '.join(map(str, data))}: no cell in {len(truths)} images to fit anchors to; give data with true cells"
        )
    console = Console()
    fits = {}
    for title, models in scales.items():
        with Console(stderr=True).status(f"measuring anchors, {title}"):
            fits[title] = fit_anchors(truths, models)
        console.print(_overall(title, fits[title]), _by_size(fits[title]))
        print(_advice(title, fits[title]))
    recall = {} if network is None else recall_by_size(sides, np.concatenate(covered, axis=1))
    if recall:
        console.print(_recall(f"Model {model}: cells covered at IoU 0.5 after each step", recall))
    if json is not None:
        document = {
            "data": [str(folder) for folder in data],
            "n_images": len(truths),
            "n_cells": len(sides),
            "scales": {title: [fit.as_json() for fit in found] for title, found in fits.items()},
            "model": model,
            "recall": {label: asdict(row) for label, row in recall.items()},
        }
        write_bytes(json, orjson.dumps(document, option=orjson.OPT_INDENT_2))
    if plot is not None:
        save_png(
            plot_coverage({title: {_names(fit): fit.ious for fit in found} for title, found in fits.items()}), plot
        )


def _by_scale(presets: Sequence[str], magnification: float | None) -> dict[str, dict[str, ModelSettings]]:
    """Title → name → settings that share scale, levels and ratios."""
    scales: dict[str, dict[str, ModelSettings]] = {}
    for name in presets:
        settings = get_preset(name).model
        if magnification is not None:
            settings = settings.model_copy(update={"resize_short_px": None, "magnification": magnification})
        if settings.resize_short_px is None:
            scale = f"{settings.magnification:g} network px per image px"
        else:
            scale = f"short side {settings.resize_short_px} px (long side at most {settings.resize_max_px})"
        ratios = ", ".join(f"{ratio:g}" for ratio in settings.anchor_ratios)
        scales.setdefault(f"{scale}, {settings.levels()} levels, ratios {ratios}", {})[name] = settings
    return scales


def _read(dataset: Dataset, network: Model | None) -> tuple[list[TrueBoxes], list[NDArray[np.bool_]]]:
    """Cells of every image, and what the steps of `network` cover of them."""
    truths, covered = [], []
    console = Console(stderr=True)
    for i in track(range(len(dataset)), "Reading", console=console, transient=True, disable=not console.is_terminal):
        sample = dataset.load(i)
        truths.append(TrueBoxes.of(sample))
        if network is not None:
            covered.append(trace_cells(network, sample.image, truths[-1].boxes))
    return truths, covered


def _names(fit: AnchorFit) -> str:
    return ", ".join(fit.names)


def _overall(title: str, fits: Sequence[AnchorFit]) -> Table:
    headings = ("Anchors, px", "IoU ≥ 0.5", "IoU ≥ 0.7", "Mean best", "Best only", "Never taught")
    table = _table(title[0].upper() + title[1:], *headings)
    for fit in fits:
        row, n = fit.overall, fit.overall.n_cells
        table.add_row(
            f"{_names(fit)}\n{' '.join(map(str, fit.anchor_sizes))}",
            _share(row.covered_50),
            _share(row.covered_70),
            f"{row.mean_best_iou:.3f}",
            _share(row.best_anchor_only / n),
            _share(row.never_taught / n),
        )
    return table


def _by_size(fits: Sequence[AnchorFit]) -> Table:
    groups = fits[0].by_size
    headings = [f"{label} px\n{coverage.n_cells:,} cells" for label, coverage in groups.items()]
    table = _table("The same at IoU ≥ 0.5, by size of the cell in the image", "Anchors", *headings)
    for fit in fits:
        table.add_row(_names(fit), *(_share(coverage.covered_50) for coverage in fit.by_size.values()))
    return table


def _advice(title: str, fits: Sequence[AnchorFit]) -> str:
    """The suggested sizes as TOML for `everycell train --config`."""
    best = next(fit for fit in fits if SUGGESTED in fit.names)
    if len(best.names) > 1:
        return f"# {title}: nothing better than the sizes of {best.names[0]}\n"
    return f"# {title}\n[model]\nanchor_sizes = {list(best.anchor_sizes)}\n"


def _recall(title: str, recall: dict[str, Recall]) -> Table:
    table = _table(title, "Size, px", "Cells", *_STEPS)
    for label, row in recall.items():
        shares = (row.anchors, row.candidates, row.after_nms, row.proposals)
        table.add_row(label, f"{row.n_cells:,}", *map(_share, shares))
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _share(value: float) -> str:
    return f"{value:.1%}"
