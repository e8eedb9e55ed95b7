"""The training loop: from a data set and settings to a run folder with the best and the last model."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from everycell.datasets import split
from everycell.errors import ConfigError, DataError, TrainingError
from everycell.models import CellMaskRCNN, InitReport, init_network, supports_bf16
from everycell.models.checkpoint import ModelCard
from everycell.models.winograd import speed_up
from everycell.predict import Model, choose_device
from everycell.train.data import CropSource, Example
from everycell.train.job import Listener, TrainJob
from everycell.train.memory import PeakMemory
from everycell.train.prefetch import choose_workers, examples
from everycell.train.processes import Processes
from everycell.train.record import read_record, versions
from everycell.train.resume import check_same, read_resume
from everycell.train.run_writer import RESUME_FILE, RunWriter
from everycell.train.schedule import Schedule
from everycell.train.statistics import DataFacts, common_mpp, data_facts, diameter_percentiles
from everycell.train.validation import Validation, validate, validation_loss, validation_row

__all__ = ["Listener", "TrainJob", "Trainer"]


class Trainer:
    """Runs a `TrainJob`; `run` does it all.

    The run folder then holds `settings.toml`, `split.csv`, `history.csv`, `curves.png`, `tensorboard/`, `run.json`,
    `best.safetensors` (by validation mask mAP; the start model, where part of it is kept and no epoch does better),
    `last.safetensors` and what a resumed run needs.

    Attributes:
        notes: what the user should know of the run.
        seconds_per_step: mean of the optimizer steps since the start or the last resume, None before the first.
        peak_bytes: peak memory of these steps, None where it is not known.
    """

    def __init__(self, job: TrainJob, listener: Listener) -> None:
        self.job, self.listener = job, listener
        self.model_settings, self.train_settings = job.settings.model, job.settings.train
        self.processes = Processes(choose_device(job.device))
        self.device = self.processes.device
        self.workers = choose_workers(job.workers, self.device, self.processes.count)
        self.bf16 = self.train_settings.bf16 and supports_bf16(self.device)
        train, val = self._split()
        if not train or (not val and self.train_settings.val_fraction):
            raise DataError(f"training needs at least two images, one of them for validation; got {len(job.dataset)}")
        if not val and (self.train_settings.schedule == "plateau" or self.train_settings.early_stopping):
            raise ConfigError("without validation images the schedule must be cosine, with no early_stopping")
        self.train_source = CropSource(job.dataset, train, self.model_settings, self.train_settings)
        self.val_source = CropSource(job.dataset, val, self.model_settings, self.train_settings)
        self.images_per_step = self._check_batch() * self.train_settings.accumulate
        self.steps_per_epoch = self.train_settings.steps_per_epoch or -(-len(train) // self.images_per_step)
        torch.manual_seed(self.train_settings.seed)
        self.network, self.init = self._build()
        self.average = copy.deepcopy(self.network) if self.train_settings.ema_decay else None
        self._start = self._kept() if self.train_settings.keep_start else {}
        self._wrapped = self.processes.wrap(self.network)
        total = self.steps_per_epoch * self.train_settings.epochs
        self.schedule = Schedule(self.network, self.train_settings, total)
        self.best, self.since_best, self.epoch = -1.0, 0, 0
        self.memory = PeakMemory(self.device)
        self.notes: list[str] = []
        self.peak_bytes: int | None = None
        self._seconds, self._steps = 0.0, 0

    def run(self, *, resume: bool = False) -> Path:
        """Train to the end and return the best model's file.

        Args:
            resume: go on after the last finished epoch of the run in the folder; from the beginning when there is none.

        Raises:
            TrainingError: the loss is not finite (the images are named), or the run cannot be resumed.
            OutputError: the run folder cannot be written.
        """
        rows = self._resume() if resume else []
        self.notes += self._missing_classes()
        writer = RunWriter(self, rows, resumed=resume) if self.processes.is_main else None
        if writer:
            self.listener.on_start(self)
        status = "interrupted"
        try:
            if self._start and not rows:
                self._rank_start(writer)
            while self.epoch < self.train_settings.epochs and not self._is_stuck():
                row, validation = self._epoch(self.epoch + 1)
                is_best = self._rank(validation)
                if writer:
                    writer.add_epoch(row, validation, is_best=is_best)
                    self.listener.on_epoch(row)
            status = "stopped early" if self.epoch < self.train_settings.epochs else "finished"
        finally:
            if writer:
                writer.close(status)
        return self.job.out / "best.safetensors"

    def result(self) -> CellMaskRCNN:
        """The network that is validated and saved: the moving average if there is one, mixed with the start model.

        A mean of the weights before and after fine-tuning does nearly as well on the new images as those after it, and
        loses less on others (Wortsman et al. 2022).
        """
        trained = self.average or self.network
        if not self._start:
            return trained
        mixed = copy.deepcopy(trained)
        with torch.no_grad():
            for name, tensor in mixed.state_dict().items():
                if name in self._start:
                    tensor.lerp_(self._start[name], self.train_settings.keep_start)
        return mixed

    @property
    def seconds_per_step(self) -> float | None:  # noqa: D102
        return round(self._seconds / self._steps, 4) if self._steps else None

    @cached_property
    def data_facts(self) -> DataFacts:
        """Counts and fingerprint of all images."""
        dataset, training = self.job.dataset, set(self.train_source.indices)
        samples = ((self.train_source if i in training else self.val_source).load(i) for i in range(len(dataset)))
        return data_facts(dataset.class_names, samples)

    def card(self, validation: Validation | None) -> ModelCard:
        """What the model file of this moment says."""
        job = self.job
        return ModelCard(
            name=job.out.name,
            settings=self.model_settings,
            class_names=job.dataset.class_names,
            score_thresh=validation.score_thresh if validation else 0.5,
            **self._cell_sizes,
            data=job.data_name,
            licence=job.licence,
            recipe=self.train_settings.model_dump(mode="json")
            | {"epoch": self.epoch, "init_weights": Path(self.train_settings.init_weights).name},
            metrics={"validation": vars(validation)} if validation else {},
            versions=versions(),
        )

    @cached_property
    def _cell_sizes(self) -> dict[str, Any]:
        samples = [self.train_source.load(i) for i in self.train_source.indices]
        return {"diameter_px": diameter_percentiles(samples), "mpp": common_mpp(samples)}

    def _split(self) -> tuple[list[int], list[int]]:
        job, settings = self.job, self.train_settings
        if job.held_out is not None:
            return sorted(set(range(len(job.dataset))) - set(job.held_out)), sorted(job.held_out)
        if not settings.val_fraction:
            return list(range(len(job.dataset))), []
        return split(len(job.dataset), fraction=settings.val_fraction, seed=settings.seed, groups=job.groups)

    def _check_batch(self) -> int:
        size, count = self.train_settings.batch_size, self.processes.count
        if size % count:
            raise ConfigError(
                f"batch_size is shared among the processes and must be a multiple of their number, got {size} for "
                f"{count}; set batch_size = {-(-size // count) * count}"
            )
        return size

    def _build(self) -> tuple[CellMaskRCNN, InitReport]:
        network = CellMaskRCNN(self.model_settings, len(self.job.dataset.class_names))
        report = init_network(network, self.train_settings.init_weights)
        speed_up(network)
        return network.to(self.device).to(memory_format=torch.channels_last), report

    def _kept(self) -> dict[str, Tensor]:
        """The start model's weights, but those that it lacks."""
        if self.init.part != "model":
            raise ConfigError(
                "keep_start needs init_weights that are a whole everycell model, such as nuclei or a file, got "
                f"{self.train_settings.init_weights}"
            )
        state = self.network.state_dict()
        return {
            name: tensor.clone()
            for name, tensor in state.items()
            if tensor.is_floating_point() and name not in self.init.missing
        }

    def _missing_classes(self) -> list[str]:
        """A note for every class without a cell among the training, or the validated, images."""
        validated = self.val_source.indices[: self.train_settings.val_limit]
        notes = []
        for indices, where, so in (
            (self.train_source.indices, "training", "it will not be found"),
            (validated, "validation", "its AP is not known and not part of the mean"),
        ):
            if not indices:
                continue
            counts = self.data_facts.cells[np.array(indices)].sum(axis=0)
            names = (name for name, n in zip(self.job.dataset.class_names, counts, strict=True) if not n)
            notes += [f"class {name} has no cell in the {where} images: {so}" for name in names]
        return notes

    def _epoch(self, epoch: int) -> tuple[dict[str, Any], Validation | None]:
        settings = self.train_settings
        self.network.train()
        # Seeded for each epoch and process, so that no random state need be kept.
        torch.manual_seed(_seed(settings.seed, epoch, self.processes.rank))
        rate, sums = self.schedule.learning_rate, dict[str, float]()
        count = settings.steps_per_epoch and settings.steps_per_epoch * self.images_per_step
        order = self.train_source.order(epoch, count)
        self.memory.reset()
        start = time.perf_counter()
        steps = _parts(range(len(order)), self.images_per_step)
        batches = [batch for of_step in steps for batch in _parts(of_step, settings.batch_size)]
        own = [place for batch in batches for place in self._own(batch) or batch[:1]]
        made = examples(self.train_source, epoch, order, own, self.workers)
        for step, of_step in enumerate(steps, start=1):
            losses = self._step(of_step, made)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            if self.processes.is_main:
                self.listener.on_step(epoch, (epoch - 1) * self.steps_per_epoch + step, losses)
        self._seconds, self._steps = self._seconds + time.perf_counter() - start, self._steps + self.steps_per_epoch
        self.peak_bytes = max((peak for peak in (self.peak_bytes, self.memory.read()) if peak), default=None)
        self.epoch = epoch
        means = {name: value / self.steps_per_epoch for name, value in sums.items()}
        train_loss = sum(means.values())
        val_loss, validation = self.processes.from_main(self._validate)
        self.schedule.end_epoch(val_loss)
        row = {"epoch": epoch, "lr": rate, "train_loss": train_loss, **means, "val_loss": val_loss}
        row["gap"] = None if val_loss is None else val_loss - train_loss
        return row | validation_row(validation, self.job.dataset.class_names), validation

    def _own(self, batch: range) -> range:
        """This process's share of a batch."""
        return batch[self.processes.rank :: self.processes.count]

    def _step(self, places: range, made: Iterator[Example]) -> dict[str, float]:
        """One optimizer step on the examples at `places`, batch by batch, each shared among the processes.

        Args:
            places: of all processes.
            made: gives this process's own examples, and one of each batch that it has no share in.
        """
        processes = self.processes
        self.schedule.optimizer.zero_grad()  # before the forward pass, which then has the gradients' memory as well
        sums: dict[str, float] = {}
        for batch in _parts(places, self.train_settings.batch_size):
            own = len(self._own(batch))
            # A process without an example takes one with weight 0, since every exchange needs all processes.
            taken = list(islice(made, max(1, own)))
            is_last = batch[-1] == places[-1]
            with nullcontext() if is_last else processes.accumulating(self._wrapped):
                losses = self._add_gradients(taken, own / len(places))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.train_settings.clip_norm)
        self.schedule.step()
        self._follow()
        return sums

    def _add_gradients(self, examples: Sequence[Example], share: float) -> dict[str, float]:
        """Add the gradients of `share` times the loss; returns the loss terms, weighted so, of all processes."""
        images = [example.image.to(self.device) for example in examples]
        targets = [{key: value.to(self.device) for key, value in example.target.items()} for example in examples]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            _, terms = self._wrapped(images, targets)
        losses = torch.stack(list(terms.values()))
        summed = self.processes.sum(losses.detach() * share)
        if not torch.isfinite(summed).all():
            raise self._not_finite(list(terms), losses, examples)
        # The processes' gradients are averaged, hence the factor.
        (losses.sum() * (share * self.processes.count)).backward()  # type: ignore[no-untyped-call]
        return dict(zip(terms, summed.tolist(), strict=True))

    def _not_finite(self, names: list[str], losses: Tensor, examples: Sequence[Example]) -> TrainingError:
        """An error that names the images of every process whose loss is not finite."""
        values = ", ".join(f"{name} {value:g}" for name, value in zip(names, losses.tolist(), strict=True))
        own = f"({values}) on images {', '.join(example.name for example in examples)}"
        found = self.processes.gather("" if torch.isfinite(losses).all() else own)
        return TrainingError(
            f"loss is not finite at epoch {self.epoch + 1} {' and '.join(filter(None, found))}; "
            "check these images, or lower the learning rate"
        )

    def _follow(self) -> None:
        """Move the averaged weights towards the trained ones, faster in the first steps."""
        if self.average is None:
            return
        decay = min(self.train_settings.ema_decay, (1 + self.schedule.steps) / (10 + self.schedule.steps))
        with torch.no_grad():
            for slow, fast in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                if slow.is_floating_point():
                    slow.lerp_(fast, 1 - decay)
                else:
                    slow.copy_(fast)

    def _validate(self) -> tuple[float | None, Validation | None]:
        """The validation loss, and how well cells are found where this epoch is due for that; None without images."""
        settings = self.train_settings
        if not self.val_source.indices:
            return None, None
        network = self.result()
        loss = validation_loss(network, self.val_source, self.device, bf16=self.bf16, limit=settings.val_limit)
        if self.epoch != settings.epochs and self.epoch % settings.validate_every:
            return loss, None
        samples = [self.val_source.load(i) for i in self.val_source.indices[: settings.val_limit]]
        model = Model(network.eval(), self.card(None), self.device, bf16=self.bf16)
        return loss, validate(model, samples)

    def _rank_start(self, writer: RunWriter | None) -> None:
        """Validate the start model, so that it stays the best where no epoch does better."""
        val_loss, validation = self.processes.from_main(self._validate)
        if validation is None:
            return
        self._rank(validation)
        if writer:
            writer.add_start(validation)
            row = {"epoch": 0, "train_loss": None, "val_loss": val_loss}
            self.listener.on_epoch(row | validation_row(validation, self.job.dataset.class_names))

    def _rank(self, validation: Validation | None) -> bool:
        """Whether this epoch's model is the best so far; without validation images or true cells the latest one is."""
        if validation is None:
            return not self.val_source.indices
        if validation.map > self.best or math.isnan(validation.map):
            self.best, self.since_best = max(validation.map, self.best), 0
            return True
        self.since_best += self.train_settings.validate_every
        return False

    def _is_stuck(self) -> bool:
        patience = self.train_settings.early_stopping
        return patience is not None and self.since_best >= patience

    def _resume(self) -> list[dict[str, Any]]:
        """Take up the run in the folder; returns its history."""
        path = self.job.out / RESUME_FILE
        if not path.exists():
            if read_record(self.job.out).get("epochs"):
                raise TrainingError(f"{path}: missing, so the run cannot go on; start anew in another folder")
            self.notes.append(f"no finished epoch in {self.job.out}: starting from the beginning")
            return []
        state = read_resume(path)
        check_same(path, state, self.job.settings, self.data_facts.fingerprint)
        self.network.load_state_dict(state.part("network"))
        if self.average is not None:
            self.average.load_state_dict(state.part("average"))
        self.schedule.load(state.part("optimizer"), state.values["schedule"])
        self.epoch, self.best, self.since_best = (state.values[key] for key in ("epoch", "best", "since_best"))
        self.notes.append(f"going on after epoch {self.epoch}")
        return list(state.values["rows"])


def _parts(places: range, size: int) -> list[range]:
    return [places[first : first + size] for first in range(0, len(places), size)]


def _seed(*entropy: int) -> int:
    """One seed out of several numbers."""
    return int(np.random.SeedSequence((*entropy, 1)).generate_state(1, np.uint64)[0] >> np.uint64(1))
