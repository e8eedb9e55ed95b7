"""Predict many images: each fails alone, and an interrupted run goes on where it stopped."""

from __future__ import annotations

import errno
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from everycell import __version__
from everycell.cli.one_image import OneImage, predict_image
from everycell.cli.outputs import check_formats, possible_paths, refuse_existing, remove
from everycell.cli.record import Row, RunRecord
from everycell.cli.settings import PredictSettings
from everycell.datasets import ImageId
from everycell.errors import ConfigError, DataError, EverycellError, OutputError
from everycell.files import remove_leftovers
from everycell.formats import LEADERBOARD_FILE
from everycell.io import open_source
from everycell.predict import Model, load_model
from everycell.predict.cluster import ClusterExecutor
from everycell.predict.engine import TiledPrediction
from everycell.structures import Instances

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_TILES = ".tiles"


def run_batch(
    images: Sequence[tuple[str, Path]],
    folder: Path,
    settings: PredictSettings,
    *,
    id_map: Mapping[str, ImageId] | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
) -> list[Row]:
    """Predict `images` into `folder`, with `summary.csv` and `run.json` beside their files.

    Images that an earlier run with the same settings and model finished are kept as they are; of others its finished
    tiles are. What goes wrong with one image is said in one line on stderr and in its row.

    Args:
        images: (stem, path), sorted by stem.
        folder: made when missing.
        settings: model, scale, formats.
        id_map: stem → id in COCO files, and size to check; the id is the 1-based position when None.
        scheduler: address of the Dask scheduler whose workers examine the tiles; this process does when None.
        overwrite: predict every image again and forget earlier runs in `folder`.

    Returns:
        The summary's rows of `images`, in the same order.

    Raises:
        ModelError: the model cannot be loaded.
        ConfigError: a setting is out of range, the model cannot follow it, or no scheduler answers.
        OutputError: `folder` cannot be used, the disk is full, or two images in a row could not be written.
    """
    check_formats(settings.formats)
    model = load_model(settings.model, device=settings.device, bf16=settings.bf16)
    made_by = asdict(settings) | {"model": model.name, "model_sha256": model.sha256, "everycell": __version__}
    made_by["device"] = str(model.device)
    made_by["within"] = settings.within and str(settings.within.resolve())
    with ExitStack() as stack:
        cluster = stack.enter_context(ClusterExecutor(scheduler)) if scheduler else None
        record = RunRecord(folder, made_by, model.class_names, overwrite=overwrite)
        if overwrite:
            remove(folder / _TILES)
        else:
            _refuse_foreign(images, record, settings)
        if record.resumed:
            remove_leftovers(folder)
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        batch = _Batch(model, settings, record, progress, id_map, cluster)
        stack.enter_context(record)
        stack.enter_context(progress)
        for position, (stem, path) in enumerate(progress.track(images, description="Finding cells"), start=1):
            batch.process(stem, path, position)
    with suppress(OSError):  # tiles of incomplete images stay
        (folder / _TILES).rmdir()
    return [record.rows[stem] for stem, _ in images]


def _refuse_foreign(images: Sequence[tuple[str, Path]], record: RunRecord, settings: PredictSettings) -> None:
    """Raise where the outputs of `images` would replace files that this run did not make."""
    if "leaderboard" in settings.formats and not record.resumed:
        refuse_existing([record.folder / LEADERBOARD_FILE])
    for stem, path in images:
        row = record.rows.get(stem)
        if row and row["path"] != str(path.resolve()):
            raise OutputError(
                f"{record.folder}: holds the cells of another {stem}, {row['path']}; use --overwrite or another folder"
            )
        if not record.resumed:
            refuse_existing(possible_paths(record.folder, stem, settings.formats))


@dataclass
class _Batch:
    model: Model
    settings: PredictSettings
    record: RunRecord
    progress: Progress
    id_map: Mapping[str, ImageId] | None
    cluster: ClusterExecutor | None
    said: set[str] = field(default_factory=set)
    write_failed: bool = False

    def process(self, stem: str, path: Path, position: int) -> None:
        """Predict one image unless it is done; a failure becomes its row, and a line on stderr."""
        failed_before, self.write_failed = self.write_failed, False
        try:
            row = self._row(stem, path, position)
        except ConfigError:
            raise  # wrong for every image
        except (EverycellError, MemoryError, OSError, RuntimeError) as error:
            row = {"image": stem, "path": str(path.resolve()), "status": "failed", "error": _one_line(error, path)}
            self.write_failed = isinstance(error, OutputError)
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _DISK_FULL:
                self.record.add(row)
                raise OutputError(f"{row['error']}; the same command then goes on from here") from error
        if "error" in row:
            self._say(f"error: {row['error']}")
        self.record.add(row)
        if row["status"] == "ok":
            remove(self.record.folder / _TILES / stem)
        if failed_before and self.write_failed:
            raise OutputError(
                f"{self.record.folder}: stopped after two images in a row could not be written; "
                "when that is mended, the same command goes on from here"
            )

    def _row(self, stem: str, path: Path, position: int) -> Row:
        known = self.id_map.get(stem) if self.id_map is not None else None
        if self.id_map is not None and known is None:
            raise DataError(f"{path}: the id map has no {stem!r}; add it, or leave --id-map away")
        settings, folder = self.settings, self.record.folder
        image = OneImage.of(stem, path, known.id if known else position, settings.within)
        key = image.key()
        if self.record.is_done(stem, key):
            return self.record.rows[stem] | {"kept": True}
        start = time.perf_counter()
        work = image.work_folder(folder / _TILES)
        with open_source(path, channels=settings.channels, mpp=settings.mpp) as source:
            if known and (fault := known.size_fault(path, source.size)):
                raise DataError(fault)
            row, notes = predict_image(
                image, source, self.model, settings, folder=folder, work=work, stream=partial(self._stream, stem)
            )
        for note in notes:
            self._say_once(f"note: {note}", path)
        head = {"image": stem, "path": str(path.resolve()), "source": key}
        return head | row | {"seconds": round(time.perf_counter() - start, 3)}

    def _stream(self, stem: str, tiles: TiledPrediction) -> Generator[Instances]:
        """All cells, with a progress bar of the tiles where there are several."""
        bar = self.progress.add_task(stem, total=None, visible=False)

        def show(done: int, total: int) -> None:
            self.progress.update(bar, completed=done, total=total, visible=total > 1)

        try:
            if self.cluster is None:
                yield from tiles.stream(show)
            else:
                yield from tiles.stream(show, executor=self.cluster, in_flight=self.cluster.in_flight)
        finally:
            self.progress.remove_task(bar)

    def _say_once(self, line: str, path: Path) -> None:
        if line not in self.said:
            self.said.add(line)
            self._say(f"{line} (first in {path.name})")

    def _say(self, line: str) -> None:
        self.progress.console.print(f"everycell: {line}", markup=False, highlight=False, soft_wrap=True)


def _one_line(error: BaseException, path: Path) -> str:
    """What went wrong, with the image it happened to."""
    text = str(error).partition("\n")[0] or "not enough memory; cut the image into smaller ones"
    return text if str(path) in text else f"{path}: {text}"
