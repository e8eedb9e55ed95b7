"""The files that a prediction writes for one image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from everycell.cli.settings import Format
from everycell.errors import OutputError
from everycell.formats import measure, write_coco, write_geojson, write_label_image, write_table
from everycell.plot import brighten, overlay, save_png
from everycell.structures import Image, Instances

_SUFFIXES: dict[Format, tuple[str, ...]] = {
    "labels": (".labels.tif",),
    "coco": (".coco.json",),
    "geojson": (".geojson",),
    "table": (".cells.csv", ".cells.parquet"),
    "overlay": (".overlay.png",),
    "leaderboard": (".coco.json",),  # of which the run's one zip is made at its end
}


def output_paths(folder: Path, stem: str, formats: Sequence[Format]) -> list[Path]:
    """Every file that `write_outputs` makes for the image `stem`."""
    return [folder / f"{stem}{suffix}" for kind in formats for suffix in _SUFFIXES[kind]]


def refuse_existing(paths: Iterable[Path]) -> None:
    """Raise an OutputError for the first of `paths` that is there."""
    for path in paths:
        if path.exists():
            raise OutputError(f"{path}: already exists; use --overwrite or another folder")


def write_outputs(
    cells: Instances, image: Image, folder: Path, stem: str, formats: Sequence[Format], image_id: int
) -> None:
    """Write the cells of one image in each of `formats`; all files appear, or none.

    Args:
        cells: what was found.
        image: where.
        folder: an existing folder.
        stem: what the files' names begin with.
        formats: which to write.
        image_id: number of the image in the COCO file.

    Raises:
        OutputError: a file could not be written.
    """
    paths = {suffix: folder / f"{stem}{suffix}" for kind in formats for suffix in _SUFFIXES[kind]}
    try:
        if "labels" in formats:
            write_label_image(cells, paths[".labels.tif"])
        if "coco" in formats or "leaderboard" in formats:
            write_coco(cells, paths[".coco.json"], image_id)
        if "geojson" in formats or "table" in formats:
            table = measure(cells, image.pixels, image=stem)
        if "geojson" in formats:
            write_geojson(cells, paths[".geojson"], table)
        if "table" in formats:
            write_table(table, paths[".cells.csv"])
            write_table(table, paths[".cells.parquet"])
        if "overlay" in formats:
            save_png(overlay(brighten(image.pixels), cells), paths[".overlay.png"])
    except BaseException:
        for path in paths.values():
            with suppress(OSError):
                path.unlink()
        raise


def summarize(cells: Instances) -> dict[str, Any]:
    """The columns of `summary.csv` that come from the cells; µm columns are None without µm/px."""
    height, width = cells.image_size
    areas = cells.masks.areas()
    median_px = float(np.median(areas)) if len(cells) else None
    return {
        "n_cells": len(cells),
        **{f"count_{name}": int((cells.class_ids == i).sum()) for i, name in enumerate(cells.class_names, start=1)},
        "cells_per_mm2": cells.mpp and round(len(cells) / (height * width * cells.mpp**2) * 1e6, 2),
        "median_area_px": median_px,
        "median_area_um2": cells.mpp and median_px and round(median_px * cells.mpp**2, 3),
        "height": height,
        "width": width,
        "mpp": cells.mpp,
        "notes": "; ".join(cells.notes),
    }
