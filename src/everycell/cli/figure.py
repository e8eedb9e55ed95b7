"""`everycell figure`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from everycell.errors import DataError

if TYPE_CHECKING:
    from everycell.structures import Image, Instances


def figure(
    image: Annotated[Path, Parameter(metavar="IMAGE")],
    /,
    *,
    pred: Annotated[Path, Parameter(metavar="CELLS")],
    output: Annotated[
        Path, Parameter(name=["--output", "-o"], metavar="FILE.png", validator=validators.Path(ext="png"))
    ],
    truth: Annotated[Path | None, Parameter(metavar="CELLS")] = None,
    color: Literal["class", "instance"] = "class",
    mpp: Annotated[float | None, Parameter(metavar="X", validator=validators.Number(gt=0))] = None,
) -> None:
    """Draw an image, its masks and their outlines side by side.

    Args:
        image: the image file.
        pred: its cells, in any format that evaluate reads; a folder of class1.tif and so on is one.
        output: the picture, a .png file.
        truth: its true cells, of any of these kinds, for a fourth panel.
        color: what the colours of the outlines stand for.
        mpp: micrometres per pixel, for the scale bar; the file's own when left out.
    """
    # Imported here, so that help and wrong usage stay fast.
    from everycell.io import find_images, read_image
    from everycell.plot import brighten, plot_panels, save_png

    found = find_images([image])
    if len(found) > 1:
        raise DataError(f"expected one image, got {len(found)} in {image}; name one of them")
    [(stem, path)] = found
    picture = read_image(path)
    if mpp is not None:
        picture = replace(picture, mpp=mpp)
    cells = _read_cells(pred, picture, stem)
    true_cells = None if truth is None else _read_cells(truth, picture, stem)
    save_png(plot_panels(brighten(picture.pixels), cells, truth=true_cells, by=color, title=stem), output)


def _read_cells(path: Path, image: Image, stem: str) -> Instances:
    """Cells of `image`, from the only image in `path` or the one called `stem`.

    A prediction's `summary.csv` beside a file is used.
    """
    from everycell.cli.cell_source import look_around
    from everycell.formats import Classes, open_cell_set

    cells = open_cell_set(path)
    if len(cells.names) > 1 and stem not in cells.names:
        raise DataError(f"{path} holds the cells of {len(cells.names)} images, but none called {stem}; name a file")
    known = look_around(path, None, None)
    _, known_mpp = known.summary.get(stem, (None, None))
    name = stem if stem in cells.names else cells.names[0]
    found = cells.read(name, image.size, Classes(known.class_names), image.mpp or known_mpp)
    return found if found.class_names else replace(found, class_names=cells.class_names())
