"""Tiles on many machines: an executor that gives them to the workers of a Dask cluster.

A worker that dies has its tiles examined by another. Workers need everycell, the image and the model file under the
same paths; cells travel back over the network, so the folder of finished tiles is needed on this side only.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from functools import lru_cache, partial
from typing import Any, Self, TypeVar

from everycell.errors import ConfigError, EverycellError

_T = TypeVar("_T")
_TIMEOUT_SECONDS = 30


class ClusterExecutor(Executor):
    """Runs the tiles of `TiledPrediction.run` on a Dask cluster.

    Attributes:
        in_flight: tiles to give it at a time.
    """

    def __init__(self, address: str) -> None:
        """Connect to the scheduler at `address`, for example tcp://host:8786.

        Raises:
            ConfigError: dask is not installed, or no scheduler answers.
        """
        try:
            from distributed import Client
        except ImportError:
            raise ConfigError("a scheduler needs dask: pip install 'everycell[cluster]'") from None
        try:
            self._client = Client(address, timeout=_TIMEOUT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no Dask scheduler answers at {address}: {error}; start it with `dask scheduler`"
            ) from None
        self._address = address
        self._executor = self._client.get_executor(pure=False)
        self.in_flight = 4 * max(1, sum(self._client.nthreads().values()))
        self._packed: tuple[Callable[..., Any], bytes] | None = None

    def submit(self, function: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Call `function`, which is sent once for all calls in a row, on some worker.

        The future raises what the function raises, and an EverycellError where the cluster fails.
        """
        if self._packed is None or self._packed[0] is not function:
            self._packed = function, pickle.dumps(function)
        future = Future[_T]()
        remote = self._executor.submit(_call, self._packed[1], *args, **kwargs)
        remote.add_done_callback(partial(_hand_on, future, self._address))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, which goes on without us."""
        self._executor.shutdown(wait=wait)
        self._client.close()

    def __enter__(self) -> Self:
        return self


def _hand_on(future: Future[_T], address: str, remote: Future[_T]) -> None:
    """What `remote` came to, for `future`; a cluster's own troubles in words."""
    from distributed import KilledWorker

    if not future.set_running_or_notify_cancel():
        return
    again = "finished tiles are kept, and the same command goes on from there"
    try:
        future.set_result(remote.result())
    except KilledWorker as error:
        future.set_exception(
            EverycellError(
                f"{address}: a tile ended {error.allowed_failures + 1} Dask workers one after the other, the last at "
                f"{error.last_worker.address}; give them more memory: {again}"
            )
        )
    except CancelledError:
        future.set_exception(EverycellError(f"{address}: the Dask scheduler is gone; start it again: {again}"))
    except BaseException as error:  # noqa: BLE001  (handed on)
        future.set_exception(error)


def _call(packed: bytes, *args: Any, **kwargs: Any) -> Any:
    return _unpacked(packed)(*args, **kwargs)


@lru_cache(maxsize=2)
def _unpacked(packed: bytes) -> Callable[..., Any]:
    """The function with its model and its open image, once for each process."""
    function: Callable[..., Any] = pickle.loads(packed)
    return function
