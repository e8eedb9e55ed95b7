"""One image of a prediction: what tells it from others, and its way from pixels to files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everycell.cli.outputs import output_paths, possible_paths, remove, write_outputs
from everycell.cli.pixels import ReadablePixels
from everycell.cli.record import Row
from everycell.cli.settings import PredictSettings
from everycell.cli.within import area_file, read_area
from everycell.io import ImageSource
from everycell.predict import Model
from everycell.predict.engine import TiledPrediction
from everycell.predict.predictor import PredictOptions
from everycell.structures import Instances

_LARGE_PX = 4096
_SLIDE_WITH_FOLDER = ".mrxs"


@dataclass(frozen=True)
class OneImage:
    """An image whose cells are wanted.

    Attributes:
        stem: what its outputs are called.
        path: a file, or the folder of a Zarr.
        image_id: its number in COCO files.
        drawn: GeoJSON file of the areas to look at; None is everywhere.
        state: bytes, latest change and number of its files: another state, another image.
    """

    stem: str
    path: Path
    image_id: int
    drawn: Path | None
    state: tuple[int, int, int]

    @classmethod
    def of(cls, stem: str, path: Path, image_id: int, within: Path | None) -> OneImage:
        """Look at the image's files, and for its areas in `within`."""
        return cls(stem, path, image_id, area_file(within, stem) if within else None, _state(path))

    def key(self) -> list[Any]:
        """What decides about its outputs, besides the run's settings; fit for JSON."""
        areas = hashlib.sha256(self.drawn.read_bytes()).hexdigest() if self.drawn else None
        return [*self.state, self.image_id, areas]

    def work_folder(self, folder: Path) -> Path:
        """Where, below `folder`, the finished tiles of this state of the image wait."""
        of_state = json.dumps([str(self.path.resolve()), *self.state])
        return folder / self.stem / hashlib.sha256(of_state.encode()).hexdigest()[:16]


def _state(path: Path) -> tuple[int, int, int]:
    folder = path.with_suffix("") if path.suffix.lower() == _SLIDE_WITH_FOLDER else path
    files = [path] if path.is_file() else []
    if folder.is_dir():
        files += [file for file in folder.rglob("*") if file.is_file()]
    states = [file.stat() for file in files]
    return sum(s.st_size for s in states), max((s.st_mtime_ns for s in states), default=0), len(states)


def predict_image(
    image: OneImage,
    source: ImageSource,
    model: Model,
    settings: PredictSettings,
    *,
    folder: Path,
    work: Path,
    stream: Callable[[TiledPrediction], Generator[Instances]],
) -> tuple[Row, list[str]]:
    """Find the cells of one image and write them.

    Args:
        image: which.
        source: its pixels.
        model: what finds the cells.
        settings: how, and what is written.
        folder: for the outputs.
        work: folder for tiles that are finished, if there are several.
        stream: examines the tiles and gives their cells.

    Returns:
        Its row, and what a reader of the result must know.

    Raises:
        DataError: the image, or the areas for it, cannot be used.
        OutputError: something could not be written; finished tiles stay.
    """
    area = read_area(image.drawn, source.size) if image.drawn else None
    options = PredictOptions(settings.diameter, settings.score_thresh, settings.views, area, settings.skip_background)
    tiles = model.tiled(source, options, work=work)
    notes = list(tiles.notes)
    if source.mpp is None and not notes and max(source.size) > _LARGE_PX:
        notes.append("µm/px unknown: sizes are in pixels alone; give --mpp")
    paths = output_paths(folder, image.stem, settings.formats, source.size)
    pixels = ReadablePixels(source)
    with closing(stream(tiles)) as batches:
        tally = write_outputs(
            batches,
            pixels,
            paths,
            stem=image.stem,
            image_id=image.image_id,
            class_names=model.class_names,
        )
    for path in set(possible_paths(folder, image.stem, settings.formats)) - set(paths):
        remove(path)  # of an earlier run, when the image had another size
    lost = tiles.report.lost
    notes += [note for note in tiles.notes if note not in {*notes, lost}]
    if pixels.damaged and not lost:
        notes.append(f"damaged places are black in overlay and intensities; the first: {min(pixels.damaged)}")
    height, width = source.size
    row = {
        "status": "incomplete" if lost else "ok",
        "outputs": [path.name for path in paths],
        **tally.row(source.size, source.mpp, area.area if area else height * width),
        "notes": "; ".join(notes),
    }
    return (row | {"error": lost} if lost else row), notes
