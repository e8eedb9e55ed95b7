"""Predict many images: each fails alone, and an interrupted run goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from everycell import __version__
from everycell.cli.outputs import output_paths, refuse_existing, summarize, write_outputs
from everycell.cli.record import Row, RunRecord
from everycell.cli.settings import PredictSettings
from everycell.datasets import ImageId
from everycell.errors import ConfigError, DataError, EverycellError, OutputError
from everycell.formats import LEADERBOARD_FILE
from everycell.io import read_image
from everycell.predict import Model, load_model


def run_batch(
    images: Sequence[tuple[str, Path]],
    folder: Path,
    settings: PredictSettings,
    *,
    id_map: Mapping[str, ImageId] | None = None,
    overwrite: bool = False,
) -> list[Row]:
    """Predict `images` into `folder`, with `summary.csv` and `run.json` beside their files.

    Images that an earlier run with the same settings and model finished are kept as they are. What goes wrong with
    one image is said in one line on stderr and in its row.

    Args:
        images: (stem, path), sorted by stem.
        folder: made when missing.
        settings: model, scale, formats.
        id_map: stem → id in COCO files, and size to check; the id is the 1-based position when None.
        overwrite: predict every image again and forget earlier runs in `folder`.

    Returns:
        The summary's rows of `images`, in the same order.

    Raises:
        ModelError: the model cannot be loaded.
        ConfigError: a setting is out of range, or the model cannot follow it.
        OutputError: `folder` cannot be used, or two images in a row could not be written.
    """
    model = load_model(settings.model, device=settings.device, bf16=settings.bf16)
    made_by = asdict(settings) | {"model": model.name, "model_sha256": model.sha256, "everycell": __version__}
    made_by["device"] = str(model.device)
    record = RunRecord(folder, made_by, model.class_names, overwrite=overwrite)
    if not overwrite:
        _refuse_foreign(images, record, settings)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    batch = _Batch(model, settings, record, console, id_map)
    with record, progress:
        for position, (stem, path) in enumerate(progress.track(images, description="Finding cells"), start=1):
            batch.process(stem, path, position)
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
            refuse_existing(output_paths(record.folder, stem, settings.formats))


@dataclass
class _Batch:
    model: Model
    settings: PredictSettings
    record: RunRecord
    console: Console
    id_map: Mapping[str, ImageId] | None
    said: frozenset[str] = frozenset({""})
    write_failed: bool = False

    def process(self, stem: str, path: Path, position: int) -> None:
        """Predict one image unless it is done; a failure becomes its row, and a line on stderr."""
        failed_before, self.write_failed = self.write_failed, False
        try:
            row = self._row(stem, path, position)
        except ConfigError:
            raise  # wrong for every image
        except (EverycellError, MemoryError, OSError, RuntimeError) as error:
            message = _one_line(error, path)
            row = {"image": stem, "path": str(path.resolve()), "status": "failed", "error": message}
            self._say(f"error: {message}")
            self.write_failed = isinstance(error, OutputError)
        self.record.add(row)
        if failed_before and self.write_failed:
            raise OutputError(
                f"{self.record.folder}: stopped after two images in a row could not be written; "
                "when that is mended, the same command goes on from here"
            )
        note = row.get("notes", "")
        if note not in self.said:
            self.said |= {note}
            self._say(f"note: {note} (first in {path.name})")

    def _row(self, stem: str, path: Path, position: int) -> Row:
        known = self.id_map.get(stem) if self.id_map is not None else None
        if self.id_map is not None and known is None:
            raise DataError(f"{path}: the id map has no {stem!r}; add it, or leave --id-map away")
        image_id = known.id if known else position
        state = path.stat()
        source = [state.st_size, state.st_mtime_ns, image_id]
        outputs = output_paths(self.record.folder, stem, self.settings.formats)
        if self.record.is_done(stem, source) and all(output.exists() for output in outputs):
            return self.record.rows[stem] | {"kept": True}
        start = time.perf_counter()
        image = read_image(path, channels=self.settings.channels)
        if known and (fault := known.size_fault(path, image.size)):
            raise DataError(fault)
        cells = self.model.predict(
            image, mpp=self.settings.mpp, diameter=self.settings.diameter, score_thresh=self.settings.score_thresh
        )
        write_outputs(cells, image, self.record.folder, stem, self.settings.formats, image_id)
        row = {"image": stem, "path": str(path.resolve()), "source": source, "status": "ok"}
        return row | summarize(cells) | {"seconds": round(time.perf_counter() - start, 3)}

    def _say(self, line: str) -> None:
        self.console.print(f"everycell: {line}", markup=False, highlight=False, soft_wrap=True)


def _one_line(error: BaseException, path: Path) -> str:
    """What went wrong, with the image it happened to."""
    text = str(error).partition("\n")[0] or "not enough memory; cut the image into smaller ones"
    return text if str(path) in text else f"{path}: {text}"
