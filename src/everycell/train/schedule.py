"""Optimizer and learning rate, with a state that fits into safetensors and JSON."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from everycell.config import TrainSettings


class Schedule:
    """An optimizer whose learning rate follows the settings.

    "plateau": times `plateau_factor` after `plateau_patience` epochs without a lower validation loss.
    "cosine": linear warm-up, then half a cosine down to zero at `total_steps` (Loshchilov & Hutter 2017).
    """

    def __init__(self, network: nn.Module, settings: TrainSettings, total_steps: int) -> None:
        self.settings, self.total_steps, self.steps = settings, total_steps, 0
        parameters = [p for p in network.parameters() if p.requires_grad]
        kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        self.optimizer = kind(
            parameters, lr=settings.learning_rate, betas=(0.9, 0.999), weight_decay=settings.weight_decay, fused=True
        )
        self.plateau = ReduceLROnPlateau(
            self.optimizer, factor=settings.plateau_factor, patience=settings.plateau_patience
        )

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self) -> None:
        """One optimizer step at the rate of the moment."""
        if self.settings.schedule == "cosine":
            warm = min(1.0, (self.steps + 1) / max(1, self.settings.warmup_steps))
            rate = self.settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * self.steps / self.total_steps))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        self.optimizer.step()
        self.steps += 1

    def end_epoch(self, val_loss: float | None) -> None:
        """Tell the plateau rule this epoch's validation loss."""
        if self.settings.schedule == "plateau":
            assert val_loss is not None
            self.plateau.step(val_loss)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, JSON values) that `load` takes."""
        state = self.optimizer.state_dict()
        tensors = {f"{i}.{name}": value for i, moments in state["state"].items() for name, value in moments.items()}
        plateau = {k: v for k, v in self.plateau.state_dict().items() if isinstance(v, int | float)}
        return tensors, {"steps": self.steps, "lr": self.learning_rate, "plateau": plateau}

    def load(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        parameters = self.optimizer.param_groups[0]["params"]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            index, name = key.split(".", 1)
            like = parameters[int(index)]
            if value.shape == like.shape:
                # In the parameter's memory layout: fused Adam pairs elements by their place in memory.
                value = torch.empty_like(like).copy_(value)
            moments.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        for group in self.optimizer.param_groups:
            group["lr"] = values["lr"]
        self.steps = values["steps"]
        self.plateau.load_state_dict({**self.plateau.state_dict(), **values["plateau"]})
