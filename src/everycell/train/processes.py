"""The processes of a run: one for each device, started by torchrun, or a single one."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")

_PATIENCE = timedelta(hours=12)  # while process 0 validates, the others wait for it


def is_main_process() -> bool:
    """Whether this process is the one that writes and speaks: torchrun's number 0, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


class Processes:
    """What processes that train together exchange, by way of accelerate; nothing at all when there is only one.

    Every process must call each method the same number of times, in the same order.

    Attributes:
        rank: number of this process, 0 … count - 1.
        count: of all processes.
        device: of this process.
    """

    def __init__(self, device: torch.device) -> None:
        """Meet the other processes that torchrun started, if any.

        Args:
            device: where to train; of "cuda" each process takes its own.
        """
        self.rank, self.count, self.device = 0, 1, device
        self._accelerator = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

            self._accelerator = Accelerator(
                cpu=device.type == "cpu",
                kwargs_handlers=[
                    InitProcessGroupKwargs(timeout=_PATIENCE),
                    DistributedDataParallelKwargs(gradient_as_bucket_view=True),
                ],
            )
            self.rank, self.count = self._accelerator.process_index, self._accelerator.num_processes
            self.device = device if device.type == "cpu" else self._accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """`network` with gradients that are averaged over the processes in every backward pass."""
        return network if self._accelerator is None else self._accelerator.prepare_model(network)

    def accumulating(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Leaves the gradients of the passes inside un-averaged, since more are to be added."""
        return nullcontext() if self._accelerator is None else self._accelerator.no_sync(wrapped)

    def sum(self, values: Tensor) -> Tensor:
        """Sum of every process's `values`, of the same shape."""
        return values if self._accelerator is None else self._accelerator.reduce(values, "sum")

    def gather(self, text: str) -> list[str]:
        """Every process's `text`, in order of rank."""
        if self._accelerator is None:
            return [text]
        from accelerate.utils import gather_object

        return list(gather_object([text]))

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` gives in process 0; the others wait for it."""
        if self._accelerator is None:
            return make()
        from accelerate.utils import broadcast_object_list

        value: list[T] = broadcast_object_list([make() if self.is_main else None])
        return value[0]

    def close(self) -> None:
        """Part from the other processes; the last call."""
        if self._accelerator is not None:
            self._accelerator.end_training()
