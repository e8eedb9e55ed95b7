"""`everycell train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from everycell.config import RunSettings, read_toml
from everycell.datasets import (
    MIN_INSTANCE_PX,
    Dataset,
    JoinedDataset,
    Subset,
    near_duplicate_groups,
    open_dataset,
    thumbnail,
)
from everycell.errors import ConfigError, OutputError
from everycell.models import count_parameters
from everycell.models.checkpoint import find_model, read_card, shipped_models
from everycell.predict import Model, load_model
from everycell.train import Trainer, TrainJob, get_preset
from everycell.train.before_after import BeforeAfter, before_after, write_before_after
from everycell.train.processes import is_main_process

_KEPT_ON_FINETUNING = ("recipe", "balance_classes")
"""Settings of preset `finetune` that are those the start model was trained with, as its card says."""


def train(
    data: Annotated[list[Path], Parameter(metavar="DATA")],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], metavar="RUN")],
    preset: str | None = None,
    from_model: Annotated[str | None, Parameter(name="--from", metavar="MODEL")] = None,
    config: Annotated[Path | None, Parameter(metavar="FILE.toml")] = None,
    epochs: int | None = None,
    init_weights: Annotated[str | None, Parameter(metavar="FILE")] = None,
    validation: Annotated[list[Path] | None, Parameter(metavar="DATA", consume_multiple=True)] = None,
    old: Annotated[list[Path] | None, Parameter(metavar="DATA", consume_multiple=True)] = None,
    limit: Annotated[int | None, Parameter(metavar="N")] = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    device: str = "auto",
    workers: Annotated[int | None, Parameter(metavar="N")] = None,
    bf16: bool = True,
    data_name: str = "",
    licence: str = "",
) -> None:
    """Train a model on folders of images with outlined cells.

    Args:
        data: folders that directly hold the samples; several are joined.
        output: run folder for models, history and curves.
        preset: baseline, reference, modern, nuclei, tissue or finetune; by default reference, and finetune with --from.
        from_model: start from this everycell model, a name or a file, with its own model settings; the run ends with a
            table of both models on the validation images.
        config: TOML file whose [model] and [train] settings replace those of the preset.
        epochs: replaces the preset's.
        init_weights: start weights in place of the preset's: imagenet (downloaded), random, a backbone's .safetensors
            file, whole or partial, or an everycell model, of which all is taken that fits.
        validation: folders of the validation images; a share of the training images is held out when not given.
        old: folders of images that the model of --from should still do well on; compared at the end, not trained on.
        limit: use only the first N images.
        resume: go on with an interrupted run in the same folder; start it where no epoch is finished.
        overwrite: start anew although the run folder holds a run.
        device: auto, cpu, cuda or mps.
        workers: processes that cut and augment training examples; by default none on a CPU, up to 12 beside a GPU.
        bf16: bfloat16 convolutions where the device is faster with them.
        data_name: what the model card says the model was trained on; the folders' names when empty.
        licence: of the data, for the model card.
    """
    if from_model is not None and init_weights is not None:
        raise ConfigError("--from and --init-weights both say where to start; give one of them")
    if old and from_model is None:
        raise ConfigError("--old compares with the model that training starts from; name that with --from")
    preset = preset or ("finetune" if from_model else "reference")
    options = {"epochs": epochs, "init_weights": init_weights, "bf16": None if bf16 else False}
    settings = _settings(preset, from_model, config, options)
    if (output / "last.safetensors").exists() and not (resume or overwrite):
        raise OutputError(
            f"{output}: holds a run already; give --resume to go on, --overwrite to start anew, or another folder"
        )
    # Loaded now: the run may replace its file.
    before = load_model(from_model, device=device, bf16=bf16) if from_model is not None else None
    old_images = open_folders(old, None) if old else None
    dataset, held_out = open_folders(data, limit), None
    if validation:
        known = len(dataset)
        dataset = JoinedDataset([dataset, open_folders(validation, None)])
        held_out = range(known, len(dataset))
    console = Console(stderr=True, quiet=not is_main_process())
    with console.status("reading images"):
        groups = join_duplicates(dataset, console)
    job = TrainJob(
        dataset=dataset,
        settings=settings,
        out=output,
        groups=groups,
        held_out=held_out,
        data_name=data_name or ", ".join(path.resolve().name for path in data),
        licence=licence,
        device=device,
        workers=workers,
        folders=[*data, *(validation or ())],
    )
    with ProgressListener(console) as listener:
        trainer = Trainer(job, listener)
        best = trainer.run(resume=resume)
    if trainer.peak_bytes is not None:
        peak = f"{trainer.peak_bytes / 2**30:.2f} GiB ({trainer.memory.kind})"
        console.print(f"{trainer.seconds_per_step:.2f} s a step, peak memory {peak}", highlight=False)
    trainer.processes.close()
    if is_main_process():
        if before is not None:
            after = load_model(best, device=device, bf16=bf16)
            with console.status("comparing with the start model"):
                rows = _compare(trainer, before, after, old_images)
            _show(rows, console, output / "before_after.csv")
            if not after.card.recipe["epoch"]:
                console.print("no epoch did better than the start model on the validation images, so it stays the best")
        print(f"best model: {best}")


def _compare(trainer: Trainer, before: Model, after: Model, old: Dataset | None) -> list[BeforeAfter]:
    """Both models on the validation images, or the training ones where there are none, and on old images."""
    dataset = trainer.job.dataset
    indices, name = trainer.val_source.indices, "new, held out"
    if not indices:
        indices, name = trainer.train_source.indices, "new, trained on"
    parts: list[tuple[str, Dataset]] = [(name, Subset(dataset, indices))]
    if old is not None:
        parts.append(("old", old))
    return [
        before_after(before, after, name, [part.load(i) for i in range(len(part))], part.class_names)
        for name, part in parts
    ]


def _show(rows: list[BeforeAfter], console: Console, path: Path) -> None:
    """Print the table, warn of what became worse, and write it to `path`."""
    write_before_after(rows, path)
    table = Table("images", "n", "cells", "F1@0.5 before", "after", "AP50 before", "after")
    for row in rows:
        figures = (row.f1_before, row.f1_after, row.ap50_before, row.ap50_after)
        table.add_row(row.data, f"{row.n_images:,}", f"{row.n_cells:,}", *(f"{figure:.3f}" for figure in figures))
    console.print(table)
    for row in rows:
        if row.is_worse:
            console.print(
                f"warning: the new model does worse than the one it started from on the images {row.data}; train on "
                "old and new images together, for fewer steps, or at a lower learning rate",
                style="bold",
                soft_wrap=True,
            )


def _settings(preset: str, from_model: str | None, config: Path | None, options: dict[str, Any]) -> RunSettings:
    """The preset, the model to start from, the file and the options that are not None: later ones override."""
    values: dict[str, Any] = get_preset(preset).model_dump()
    source = f"preset {preset}"
    if from_model is not None:
        path = find_model(from_model)
        card = read_card(path)
        values["model"] = card.settings.model_dump()
        values["train"]["init_weights"] = from_model if from_model in shipped_models() else str(path)
        if preset == "finetune":
            values["train"] |= {key: card.recipe[key] for key in _KEPT_ON_FINETUNING if key in card.recipe}
    if config is not None:
        source = str(config)
        for table, changes in read_toml(config).items():
            if table not in values or not isinstance(changes, dict):
                raise ConfigError(f"{config}: unknown table [{table}]; valid are {', '.join(values)}")
            values[table] |= changes
    values["train"] |= {key: value for key, value in options.items() if value is not None}
    return RunSettings.parse(values, source)


def join_duplicates(dataset: Dataset, console: Console) -> list[int]:
    """Groups of near-duplicate images; says how many degenerate instances reading dropped."""
    thumbnails, dropped = [], 0
    for i in range(len(dataset)):
        sample = dataset.load(i)
        thumbnails.append(thumbnail(sample.image))
        dropped += sample.dropped
    if dropped:
        console.print(f"dropped {dropped} instances of under {MIN_INSTANCE_PX} px", highlight=False)
    return near_duplicate_groups(thumbnails)


def open_folders(folders: list[Path], limit: int | None) -> Dataset:
    """The data sets in `folders` joined; their first `limit` images."""
    parts = [open_dataset(folder) for folder in folders]
    dataset: Dataset = parts[0] if len(parts) == 1 else JoinedDataset(parts)
    if limit is None:
        return dataset
    if limit < 1:
        raise ConfigError(f"--limit must be at least 1, got {limit}")
    return Subset(dataset, range(min(limit, len(dataset))))


class ProgressListener:
    """Shows a run on the terminal: a bar with the time left, and a line an epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )

    def __enter__(self) -> ProgressListener:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def on_start(self, trainer: Trainer) -> None:
        """Say what was filled, what is trained and how long the run is."""
        self._say(str(trainer.init))
        trainable, total = count_parameters(trainer.network)
        classes = ", ".join(trainer.job.dataset.class_names)
        self._say(f"{trainable:,} parameters are trained, of {total:,}; classes: {classes}")
        train, validation = len(trainer.train_source.indices), len(trainer.val_source.indices)
        steps = trainer.schedule.total_steps
        self._say(f"{train} images for training, {validation} for validation; {steps:,} steps")
        for note in trainer.notes:
            self._say(note)
        done = trainer.epoch * trainer.steps_per_epoch
        self.task = self.progress.add_task("train", total=steps, completed=done, epoch=trainer.epoch + 1, loss=0.0)

    def on_step(self, epoch: int, step: int, losses: dict[str, float]) -> None:
        """Move the bar."""
        self.progress.update(self.task, completed=step, epoch=epoch, loss=sum(losses.values()))

    def on_epoch(self, row: dict[str, Any]) -> None:
        """Print the epoch."""
        cells = [f"epoch {row['epoch']}", f"train {row['train_loss']:.3f}"] if row["epoch"] else ["start model"]
        if row["val_loss"] is not None:
            cells.append(f"validation {row['val_loss']:.3f}")
        if row["val_map"] is not None:
            cells.append(f"AP@[.5:.95] {row['val_map']:.3f}  AP50 {row['val_ap50']:.3f}  AP75 {row['val_ap75']:.3f}")
            cells.append(f"F1@0.5 {row['val_f1_50']:.3f}")
        self._say("  ".join(cells))

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
