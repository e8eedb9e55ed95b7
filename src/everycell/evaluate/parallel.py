"""Many images compared at once, in several processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from everycell.errors import EverycellError
from everycell.evaluate.image import ComparedImage, EvaluationSettings, compare_image
from everycell.evaluate.sources import Comparison

_WORTH_A_WORKER = 25  # images; a process takes a second or two to start


def usual_workers(n_images: int) -> int:
    """A worker for each core that this process may use, fewer for few images."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, n_images // _WORTH_A_WORKER))


def compare_all(comparison: Comparison, settings: EvaluationSettings, workers: int = 1) -> Iterator[ComparedImage]:
    """Read and compare images, in order; the result does not depend on the number of workers.

    Args:
        comparison: the images.
        settings: how.
        workers: processes. With 1 everything happens in this one; with more, a script needs the usual guard
            `if __name__ == "__main__":`.

    Raises:
        DataError: an image cannot be read or compared.
        EverycellError: a process died.
    """
    if workers == 1:
        yield from map(_Comparer(comparison, settings), comparison.names)
        return
    # A fresh process cannot inherit a lock that some thread of this one holds.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, _start, (_Comparer(comparison, settings),)) as pool:
            yield from pool.map(_compare, comparison.names)
    except BrokenProcessPool as error:
        raise EverycellError(
            f"one of {workers} processes died while comparing {len(comparison)} images, perhaps for want of memory; "
            "try fewer workers"
        ) from error


@dataclass(frozen=True)
class _Comparer:
    """Reads and compares an image by its name."""

    comparison: Comparison
    settings: EvaluationSettings

    def __call__(self, name: str) -> ComparedImage:
        pair = self.comparison.read(name)
        return compare_image(name, pair.truth, pair.pred, self.settings, pair.ignore)


# Sent to a worker once, not with every image: it may keep a file of all images open.
_of_worker: list[_Comparer] = []


def _start(comparer: _Comparer) -> None:
    _of_worker.append(comparer)


def _compare(name: str) -> ComparedImage:
    return _of_worker[0](name)
