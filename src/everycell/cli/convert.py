"""`everycell convert`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.progress import track

from everycell.cli.cell_source import CellSource, KnownImages, look_around, open_cells
from everycell.cli.leaderboard import note, some, write_checked
from everycell.cli.outputs import output_paths, refuse_existing
from everycell.cli.settings import ClassNames
from everycell.errors import ConfigError, DataError
from everycell.files import make_folder
from everycell.formats import (
    LEADERBOARD_FILE,
    coco_results,
    measure,
    write_coco,
    write_geojson,
    write_label_image,
    write_table,
)
from everycell.io import read_image
from everycell.structures import Instances

Target = Literal["labels", "coco", "geojson", "table", "leaderboard"]


def convert(
    source: Annotated[Path, Parameter(metavar="IN")],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], metavar="OUT")],
    to: Annotated[Target, Parameter(metavar="FORMAT")],
    id_map: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    images: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    classes: ClassNames = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write cells in another format.

    Args:
        source: label image, .coco.json or .geojson, a folder of one of these kinds, or COCO results of all images.
        output: folder for the results; where only one file is written, it may be that file.
        to: labels, coco, geojson, table or leaderboard.
        id_map: JSON file of image ids and sizes by file name; the leaderboard needs it.
        images: folder of the images, where nothing else says how large they are; the table needs it.
        classes: names of classes 1, 2 and so on, separated by commas.
        overwrite: replace files that are there.
    """
    known = look_around(source, id_map, images)
    cells = open_cells(source, known, classes or ())
    _check_known(cells.stems, to, known)
    if not cells.has_classes and to != "labels":
        note("label images hold no classes and no scores: every cell becomes class 1 with score 1")
    if to == "leaderboard":
        _write_leaderboard(cells, known, output, overwrite=overwrite)
    else:
        _write_each(cells, known, output, to, overwrite=overwrite)


def _check_known(stems: Sequence[str], to: Target, known: KnownImages) -> None:
    """Raise where an image lacks what `to` needs."""
    if to == "leaderboard" and not known.id_map:
        raise ConfigError("--to leaderboard needs the image ids: give --id-map FILE")
    lacking: list[str] = []
    if to == "table":
        what, lacking = "image to measure colours in; give --images DIR", [s for s in stems if s not in known.files]
    elif to in ("leaderboard", "coco") and known.id_map:
        what, lacking = "entry in the id map; add it", [s for s in stems if s not in known.id_map]
    if lacking:
        raise DataError(f"{len(lacking)} of {len(stems)} files of cells ({some(lacking)}) have no {what}")


def _write_leaderboard(cells: CellSource, known: KnownImages, output: Path, *, overwrite: bool) -> None:
    path = output if output.suffix == ".zip" else output / LEADERBOARD_FILE
    _make_room([path], overwrite=overwrite)
    entries = []
    for stem, found in _each(cells):
        seen = found.masks.areas() > 0
        if not seen.all():
            note(f"{(~seen).sum()} cells of {stem} have no pixel and are left out")
        entries += coco_results(found.select(seen), known.id_map[stem].id)
    write_checked(entries, path, known.id_map, len(cells.class_names) or None)


def _write_each(cells: CellSource, known: KnownImages, output: Path, to: Target, *, overwrite: bool) -> None:
    targets = {stem: output_paths(output, stem, [to]) for stem in cells.stems}
    if len(targets) == 1 and any(output.suffix == path.suffix for paths in targets.values() for path in paths):
        targets = {stem: [output] for stem in targets}
    _make_room([path for paths in targets.values() for path in paths], overwrite=overwrite)
    n_cells = 0
    for position, (stem, found) in enumerate(_each(cells), start=1):
        n_cells += len(found)
        [path, *_] = targets[stem]
        if to == "labels":
            write_label_image(found, path)
        elif to == "geojson":
            write_geojson(found, path)
        elif to == "coco":
            write_coco(found, path, known.id_map[stem].id if known.id_map else position)
        else:
            write_table(measure(found, read_image(known.files[stem]).pixels, image=stem), *targets[stem])
    print(f"{n_cells:,} cells in {len(targets):,} images written to {output}")


def _make_room(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Make the folder of `paths`; files that are there already are an error unless `overwrite`."""
    if not overwrite:
        refuse_existing(paths)
    make_folder(paths[0].parent)


def _each(cells: CellSource) -> Iterator[tuple[str, Instances]]:
    """Every image's stem and cells, with a progress bar; a note is said once."""
    console = Console(stderr=True)
    said: set[str] = set()
    for stem in track(cells.stems, "Converting", console=console, transient=True, disable=not console.is_terminal):
        found = cells.read(stem)
        for text in set(found.notes) - said:
            note(f"{text} (first in {stem})")
            said.add(text)
        yield stem, found
