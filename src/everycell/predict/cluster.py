"""Tiles on many machines: an executor that gives them to the workers of a Dask cluster.

A worker that dies has its tiles examined by another. Workers need everycell, the image and the model file under the
same paths; cells travel back over the network, so the folder of finished tiles is needed on this side only.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import lru_cache
from typing import Any, Self, TypeVar

from everycell.errors import ConfigError

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
        self._executor = self._client.get_executor(pure=False)
        self.in_flight = 4 * max(1, sum(self._client.nthreads().values()))
        self._packed: tuple[Callable[..., Any], bytes] | None = None

    def submit(self, function: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Call `function`, which is sent once for all calls in a row, on some worker."""
        if self._packed is None or self._packed[0] is not function:
            self._packed = function, pickle.dumps(function)
        future: Future[_T] = self._executor.submit(_call, self._packed[1], *args, **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, which goes on without us."""
        self._executor.shutdown(wait=wait)
        self._client.close()

    def __enter__(self) -> Self:
        return self


def _call(packed: bytes, *args: Any, **kwargs: Any) -> Any:
    return _unpacked(packed)(*args, **kwargs)


@lru_cache(maxsize=2)
def _unpacked(packed: bytes) -> Callable[..., Any]:
    """The function with its model and its open image, once for each process."""
    function: Callable[..., Any] = pickle.loads(packed)
    return function
