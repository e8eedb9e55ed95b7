"""`everycell demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from everycell.cli.settings import PredictSettings

_STEM = "immunohistochemistry"
_DIAMETER_PX = 11.0  # of a typical nucleus in this image's connective tissue
_NEXT = """Open next, in {folder}:
  {stem}.overlay.png   the picture with every cell outlined, in any viewer
  {stem}.geojson       in QuPath: open {stem}.png, then drop this file on it
  {stem}.labels.tif    in ImageJ, Fiji or napari: pixels of cell 7 have value 7
  {stem}.cells.csv     a row per cell: pandas.read_csv(...) or any spreadsheet
Then your own images: everycell predict FOLDER -o OUT"""


def demo(*, output: Annotated[Path, Parameter(name=["--output", "-o"], metavar="OUT")] = Path("everycell-demo")) -> int:
    """Find the cells of a real tissue image that is already on this computer.

    The image is a section of colon, stained brown and blue, that comes with scikit-image. The model never saw brown
    stains in training: it finds the nuclei between the glands and misses most of those in the brown glands.

    Args:
        output: folder for the image and the results; made when missing, its demo files are replaced.
    """
    from skimage.data import immunohistochemistry

    from everycell.cli.batch import run_batch
    from everycell.files import make_folder
    from everycell.plot import save_png

    path = output / f"{_STEM}.png"
    make_folder(output)
    save_png(immunohistochemistry(), path)  # type: ignore[no-untyped-call]
    [row] = run_batch([(_STEM, path)], output, PredictSettings(diameter=_DIAMETER_PX), overwrite=True)
    if row["status"] == "failed":
        return 1
    print(
        f"{row['n_cells']:,} cells found in {row['seconds']:.1f} s in an image of {row['height']} by {row['width']} px."
    )
    print(_NEXT.format(folder=output, stem=_STEM))
    return 0
