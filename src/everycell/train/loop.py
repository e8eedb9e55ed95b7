"""The training loop: from a data set and settings to a run folder with the best and the last model."""

from __future__ import annotations

import copy
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
import torchvision

import everycell
from everycell.config import RunSettings, to_toml
from everycell.datasets import Dataset, split
from everycell.errors import ConfigError, DataError, TrainingError
from everycell.files import make_folder, write_bytes
from everycell.models import CellMaskRCNN, InitReport, init_backbone, supports_bf16
from everycell.models.checkpoint import ModelCard, load_network, save_model
from everycell.predict import Model, choose_device
from everycell.train.data import CropSource, Example
from everycell.train.history import History
from everycell.train.resume import ResumeState, read_resume, write_resume
from everycell.train.schedule import Schedule
from everycell.train.statistics import common_mpp, diameter_percentiles
from everycell.train.validation import Validation, validate, validation_loss

_RESUME_FILE = "resume.safetensors"


class Listener(Protocol):
    """Hears how a run goes on."""

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step."""

    def on_step(self, epoch: int, step: int, losses: dict[str, float]) -> None:
        """After every step; `step` counts from 1 over the whole run."""

    def on_epoch(self, row: dict[str, Any]) -> None:
        """After every epoch, with its row of the history."""


@dataclass(frozen=True)
class TrainJob:
    """One run.

    Attributes:
        dataset: images with their truth.
        settings: model and schedule.
        out: the run folder.
        init_weights: "imagenet", "random" or a .safetensors file for the backbone.
        from_model: an everycell model to start from instead.
        groups: one a image; images of one group stay on one side of the split.
        data_name: what the model card says it was trained on.
        licence: of that data.
        device: auto, cpu, cuda or mps.
    """

    dataset: Dataset
    settings: RunSettings
    out: Path
    init_weights: str = "imagenet"
    from_model: Path | None = None
    groups: list[int] | None = None
    data_name: str = ""
    licence: str = ""
    device: str = "auto"


class Trainer:
    """Runs a `TrainJob`; `run` does it all.

    The run folder then holds `settings.toml`, `split.csv`, `history.csv`, `curves.png`, `tensorboard/`,
    `best.safetensors` (by validation mask mAP), `last.safetensors` and what a resumed run needs.
    """

    def __init__(self, job: TrainJob, listener: Listener) -> None:
        self.job, self.listener = job, listener
        self.model_settings, self.train_settings = job.settings.model, job.settings.train
        self.device = choose_device(job.device)
        self.bf16 = self.train_settings.bf16 and supports_bf16(self.device)
        torch.manual_seed(self.train_settings.seed)
        train, val = split(
            len(job.dataset),
            fraction=self.train_settings.val_fraction,
            seed=self.train_settings.seed,
            groups=job.groups,
        )
        if not val:
            raise DataError(f"training needs at least two images, one of them for validation; got {len(job.dataset)}")
        self.train_source = CropSource(job.dataset, train, self.model_settings, self.train_settings)
        self.val_source = CropSource(job.dataset, val, self.model_settings, self.train_settings)
        wanted = self.train_settings.steps_per_epoch
        self.examples = wanted * self.train_settings.batch_size if wanted else None
        self.steps_per_epoch = wanted or -(-len(train) // self.train_settings.batch_size)
        self.network, self.init = self._build()
        self.average = copy.deepcopy(self.network) if self.train_settings.ema_decay else None
        total = self.steps_per_epoch * self.train_settings.epochs
        self.schedule = Schedule(self.network, self.train_settings, total)
        self.best, self.since_best, self.epoch = -1.0, 0, 0

    def run(self, *, resume: bool = False) -> Path:
        """Train to the end and return the best model's file.

        Raises:
            TrainingError: the loss is not finite (the images are named), or there is nothing to resume.
            OutputError: the run folder cannot be written.
        """
        rows = self._resume() if resume else []
        make_folder(self.job.out)
        write_bytes(self.job.out / "settings.toml", to_toml(self.job.settings).encode())
        self._write_split()
        history = History(self.job.out, rows)
        self.listener.on_start(self)
        try:
            for epoch in range(self.epoch + 1, self.train_settings.epochs + 1):
                row, validation = self._epoch(epoch)
                history.add(row)
                self._save(validation, row, history.rows)
                self.listener.on_epoch(row)
                patience = self.train_settings.early_stopping
                if patience is not None and self.since_best >= patience:
                    break
        finally:
            history.close()
        return self.job.out / "best.safetensors"

    def _build(self) -> tuple[CellMaskRCNN, InitReport | None]:
        classes = self.job.dataset.class_names
        if self.job.from_model is not None:
            network, card = load_network(self.job.from_model)
            if len(card.class_names) != len(classes) or card.settings != self.model_settings:
                raise ConfigError(
                    f"{self.job.from_model}: has {len(card.class_names)} classes and its own model settings; "
                    f"the data has {len(classes)}: leave out --from or give data and --preset that match"
                )
            report = None
        else:
            network = CellMaskRCNN(self.model_settings, len(classes))
            report = init_backbone(network.backbone, self.model_settings, self.job.init_weights)
        return network.to(self.device).to(memory_format=torch.channels_last), report

    def _epoch(self, epoch: int) -> tuple[dict[str, Any], Validation | None]:
        settings = self.train_settings
        self.epoch = epoch
        self.network.train()
        order = self.train_source.order(epoch, self.examples)
        sums: dict[str, float] = {}
        rate = self.schedule.learning_rate
        for step, start in enumerate(range(0, len(order), settings.batch_size), start=1):
            places = range(start, min(start + settings.batch_size, len(order)))
            batch = [self.train_source.training_example(epoch, place, order[place]) for place in places]
            losses = self._step(batch)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            self.listener.on_step(epoch, (epoch - 1) * self.steps_per_epoch + step, losses)
        means = {name: value / self.steps_per_epoch for name, value in sums.items()}
        row: dict[str, Any] = {"epoch": epoch, "lr": rate, "train_loss": sum(means.values()), **means}
        network = self.average or self.network
        row["val_loss"] = validation_loss(
            network, self.val_source, self.device, bf16=self.bf16, limit=settings.val_limit
        )
        self.schedule.end_epoch(row["val_loss"])
        due = epoch == settings.epochs or epoch % settings.validate_every == 0
        validation = self._validate(network) if due else None
        for key in ("map", "ap50", "ap75", "f1_50"):
            row[f"val_{key}"] = getattr(validation, key) if validation else None
        return row, validation

    def _step(self, batch: list[Example]) -> dict[str, float]:
        images = [example.image.to(self.device) for example in batch]
        targets = [{key: value.to(self.device) for key, value in example.target.items()} for example in batch]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            _, terms = self.network(images, targets)
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            values = ", ".join(f"{name} {float(value.detach()):g}" for name, value in terms.items())
            names = ", ".join(example.name for example in batch)
            raise TrainingError(
                f"loss is not finite at epoch {self.epoch} ({values}) on images {names}; "
                "check these images, or lower the learning rate"
            )
        self.schedule.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.train_settings.clip_norm)
        self.schedule.step()
        self._follow()
        return {name: float(value.detach()) for name, value in terms.items()}

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

    def _validate(self, network: CellMaskRCNN) -> Validation:
        indices = self.val_source.indices[: self.train_settings.val_limit]
        samples = [self.val_source.load(i) for i in indices]
        model = Model(network.eval(), self._card(None), self.device, bf16=self.bf16)
        return validate(model, samples)

    def _save(self, validation: Validation | None, row: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        network = self.average or self.network
        save_model(self.job.out / "last.safetensors", network.state_dict(), self._card(validation))
        if validation is not None and validation.map > self.best:
            self.best, self.since_best = validation.map, 0
            save_model(self.job.out / "best.safetensors", network.state_dict(), self._card(validation))
        elif validation is not None:
            self.since_best += self.train_settings.validate_every
        tensors, schedule = self.schedule.state()
        parts = {"network": self.network.state_dict(), "optimizer": tensors}
        if self.average is not None:
            parts["average"] = self.average.state_dict()
        flat = {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}
        values = {
            "epoch": row["epoch"],
            "schedule": schedule,
            "best": self.best,
            "since_best": self.since_best,
            "rows": rows,
            "settings": self.job.settings.model_dump(mode="json"),
        }
        write_resume(self.job.out / _RESUME_FILE, ResumeState({**flat, "rng": torch.get_rng_state()}, values))

    def _resume(self) -> list[dict[str, Any]]:
        path = self.job.out / _RESUME_FILE
        state = read_resume(path)
        if state.values["settings"] != self.job.settings.model_dump(mode="json"):
            raise TrainingError(f"{path}: was made with other settings; use the same ones or another run folder")
        self.network.load_state_dict(state.part("network"))
        if self.average is not None:
            self.average.load_state_dict(state.part("average"))
        self.schedule.load(state.part("optimizer"), state.values["schedule"])
        torch.set_rng_state(state.tensors["rng"])
        self.epoch, self.best, self.since_best = (state.values[key] for key in ("epoch", "best", "since_best"))
        return list(state.values["rows"])

    def _write_split(self) -> None:
        names = self.job.dataset.names
        sides = [(names[i], "train") for i in self.train_source.indices] + [
            (names[i], "validation") for i in self.val_source.indices
        ]
        text = "".join(f"{name},{side}\n" for name, side in sorted(sides))
        write_bytes(self.job.out / "split.csv", ("image,side\n" + text).encode())

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """What the card says of the training images."""
        samples = [self.train_source.load(i) for i in self.train_source.indices]
        return {"diameter_px": diameter_percentiles(samples), "mpp": common_mpp(samples)}

    def _card(self, validation: Validation | None) -> ModelCard:
        job = self.job
        return ModelCard(
            name=job.out.name,
            settings=self.model_settings,
            class_names=job.dataset.class_names,
            score_thresh=validation.score_thresh if validation else 0.5,
            **self._facts,
            data=job.data_name,
            licence=job.licence,
            recipe=job.settings.train.model_dump(mode="json")
            | {"epoch": self.epoch, "init_weights": Path(job.init_weights).name},
            metrics={"validation": vars(validation)} if validation else {},
            versions={
                "everycell": everycell.__version__,
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
                "python": platform.python_version(),
            },
        )
