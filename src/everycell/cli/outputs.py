"""The files that a prediction writes for one image."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everycell.cli.overlay_png import OverlayPngWriter
from everycell.cli.pixels import ReadablePixels
from everycell.cli.settings import Format
from everycell.errors import ConfigError, OutputError
from everycell.formats import (
    AnnDataWriter,
    CocoWriter,
    GeoJsonWriter,
    ImagejRoiWriter,
    LabelImageWriter,
    LabelZarrWriter,
    StreamWriter,
    TableWriter,
    measure,
)
from everycell.plot import OverlayPyramidWriter
from everycell.structures import Instances
from everycell.transforms import contrast_range

_MAX_PICTURE_PX = 4096  # a longer side becomes a pyramid, as in label images
_SUFFIXES: dict[Format, tuple[str, ...]] = {
    "labels": (".labels.tif",),
    "zarr": (".labels.zarr",),
    "coco": (".coco.json",),
    "geojson": (".geojson",),
    "geojson.gz": (".geojson.gz",),
    "rois": (".rois.zip",),
    "table": (".cells.csv", ".cells.parquet"),
    "anndata": (".h5ad",),
    "overlay": (".overlay.png",),
    "leaderboard": (".coco.json",),  # of which the run's one zip is made at its end
}
_MEASURED = (".geojson", ".geojson.gz", ".cells.csv", ".cells.parquet", ".h5ad")


def check_formats(formats: Sequence[Format]) -> None:
    """Raise a ConfigError where a format needs a package that is not installed."""
    if "anndata" in formats and find_spec("anndata") is None:
        raise ConfigError("--formats anndata needs one more package: pip install 'everycell[spatial]'")


def output_paths(folder: Path, stem: str, formats: Sequence[Format], size: tuple[int, int] = (1, 1)) -> list[Path]:
    """Every file or folder that is made for the image `stem` of `size` (height, width; px)."""
    suffixes = dict.fromkeys(suffix for kind in formats for suffix in _SUFFIXES[kind])
    if max(size) > _MAX_PICTURE_PX:
        suffixes = {suffix.replace(".overlay.png", ".overlay.tif"): None for suffix in suffixes}
    return [folder / f"{stem}{suffix}" for suffix in suffixes]


def possible_paths(folder: Path, stem: str, formats: Sequence[Format]) -> list[Path]:
    """Those of `output_paths` for images of any size."""
    sizes = ((1, 1), (1, _MAX_PICTURE_PX + 1))
    return list(dict.fromkeys(path for size in sizes for path in output_paths(folder, stem, formats, size)))


def refuse_existing(paths: Iterable[Path]) -> None:
    """Raise an OutputError for the first of `paths` that is there."""
    for path in paths:
        if path.exists():
            raise OutputError(f"{path}: already exists; use --overwrite or another folder")


@dataclass
class Tally:
    """What `summary.csv` says about the cells of an image, counted batch by batch.

    Attributes:
        class_names: names of classes 1 … K.
        counts: int64 [K + 1], cells by class.
        areas: of the masks, px; one array for each batch.
    """

    class_names: tuple[str, ...]
    counts: NDArray[np.int64] = field(init=False)
    areas: list[NDArray[np.int64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = np.zeros(len(self.class_names) + 1, np.int64)

    @property
    def n_cells(self) -> int:
        """Cells so far."""
        return int(self.counts.sum())

    def add(self, batch: Instances) -> None:
        """Count a batch."""
        self.counts += np.bincount(batch.class_ids, minlength=len(self.counts))
        self.areas.append(batch.masks.areas())

    def row(self, size: tuple[int, int], mpp: float | None, area_px: float) -> dict[str, Any]:
        """Columns of `summary.csv`.

        Args:
            size: (height, width) of the image, px.
            mpp: micrometres per pixel; those in µm and mm are None without it.
            area_px: the area that was looked at, px².
        """
        median_px = float(np.median(np.concatenate(self.areas))) if self.n_cells else None
        area_mm2 = mpp and area_px * mpp**2 / 1e6
        return {
            "n_cells": self.n_cells,
            **{f"count_{name}": int(n) for name, n in zip(self.class_names, self.counts[1:], strict=True)},
            "cells_per_mm2": area_mm2 and round(self.n_cells / area_mm2, 2),
            "area_mm2": area_mm2 and float(f"{area_mm2:.6g}"),
            "median_area_px": median_px,
            "median_area_um2": mpp and median_px and round(median_px * mpp**2, 3),
            "height": size[0],
            "width": size[1],
            "mpp": mpp,
        }


def write_outputs(
    batches: Iterable[Instances],
    pixels: ReadablePixels,
    paths: Sequence[Path],
    *,
    stem: str,
    image_id: int,
    class_names: tuple[str, ...],
) -> Tally:
    """Write the cells of one image to `paths`, batch by batch; all appear, or none.

    Args:
        batches: all cells, in their order.
        pixels: of the image.
        paths: some of `output_paths`.
        stem: what tables call the image.
        image_id: its number in the COCO file.
        class_names: names of classes 1 … K.

    Raises:
        OutputError: a file could not be written.
    """
    suffixes = [path.name.removeprefix(stem) for path in paths]
    tally, writers = Tally(class_names), list[StreamWriter]()
    try:
        for path, suffix in zip(paths, suffixes, strict=True):
            writers.append(_WRITERS[suffix](path, pixels, image_id))
        for batch in batches:
            table = None
            if not set(_MEASURED).isdisjoint(suffixes):
                table = measure(batch, pixels, image=stem, first_cell=tally.n_cells + 1)
            for writer in writers:
                writer.write(batch, table)
            tally.add(batch)
        while writers:  # what a writer holds is let go before the next one draws
            writers.pop(0).close()
    except BaseException:
        for writer in writers:
            writer.abort()
        for path in paths:
            remove(path)
        raise
    return tally


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _label_image(path: Path, pixels: ReadablePixels, _: int) -> StreamWriter:
    kind = LabelZarrWriter if path.suffix == ".zarr" else LabelImageWriter
    return kind(path, pixels.source.size, pixels.source.mpp)


def _table(path: Path, pixels: ReadablePixels, _: int) -> StreamWriter:
    kind = AnnDataWriter if path.suffix == ".h5ad" else TableWriter
    return kind(path, pixels.source.size, pixels.source.mpp)


def _overlay(path: Path, pixels: ReadablePixels, _: int) -> StreamWriter:
    source = pixels.source
    bright = pixels.brightened(contrast_range(source.overview()))
    if path.suffix == ".png":
        return OverlayPngWriter(path, bright, source.size)
    return OverlayPyramidWriter(path, bright, source.size, source.mpp)


# Suffix → a writer for the image and its number.
_WRITERS: dict[str, Callable[[Path, ReadablePixels, int], StreamWriter]] = {
    ".labels.tif": _label_image,
    ".labels.zarr": _label_image,
    ".coco.json": lambda path, _, image_id: CocoWriter(path, image_id),
    ".geojson": lambda path, *_: GeoJsonWriter(path),
    ".geojson.gz": lambda path, *_: GeoJsonWriter(path),
    ".rois.zip": lambda path, *_: ImagejRoiWriter(path),
    ".cells.csv": _table,
    ".cells.parquet": _table,
    ".h5ad": _table,
    ".overlay.png": _overlay,
    ".overlay.tif": _overlay,
}
