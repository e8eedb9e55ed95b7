"""What benchmarks of speed share: ways measured in turns, the stages of one way, and the machine."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import version
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def in_turns(ways: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each way returns, once a round; all ways take their turn in every round, so that all meet the same load.

    One more round goes before, to warm up, and is left out.
    """
    taken: dict[str, list[T]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, action in ways.items():
            result = action()
            if turn:
                taken[way].append(result)
    return taken


def seconds(action: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of all threads, and wall seconds, of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


class Stages:
    """Wall seconds of the stages of a computation.

    Of stages inside one another each counts its own time alone, so their sum is the time spent in any. Threads count
    apart: the sum is larger than the whole where they overlap.

    Attributes:
        seconds: of each stage so far.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside, self._lock = threading.local(), threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time until the end of the block."""
        outer, self._inside.seconds, start = getattr(self._inside, "seconds", 0.0), 0.0, time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - start
            with self._lock:
                self.seconds[name] += taken - self._inside.seconds
            self._inside.seconds = outer + taken

    def watch(self, owner: Any, attribute: str, name: str) -> None:
        """From now on count the calls of a function of a module or an object, as `setattr` can replace it."""
        function = getattr(owner, attribute)

        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            with self.stage(name):
                return function(*arguments, **options)

        setattr(owner, attribute, timed)

    def take(self) -> dict[str, float]:
        """The seconds so far, which start at 0 again."""
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken


def machine(*packages: str) -> dict[str, Any]:
    """Where and when: stands in every record."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "load": round(os.getloadavg()[0], 1),
        "versions": {name: version(name) for name in ("torch", "torchvision", *packages)},
        "date": time.strftime("%Y-%m-%d"),
    }
