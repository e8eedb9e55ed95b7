import os
import signal
from concurrent.futures import Future

import numpy as np
import pytest
from tile_stubs import LabelDetector, SlowDetector, random_cells

from everycell.errors import ConfigError, DataError, EverycellError
from everycell.io import open_source
from everycell.predict.cluster import ClusterExecutor, _hand_on
from everycell.predict.detector import Rules
from everycell.predict.engine import TiledPrediction
from everycell.predict.tiling import Tiling

distributed = pytest.importorskip("distributed", reason="dask is an extra")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of dask's own processes and sockets
def test_two_workers_one_of_them_killed_give_what_one_process_gives():
    labels = random_cells(np.random.default_rng(5), (300, 300), 150, 60)
    rules = Rules(Tiling(labels.shape, 60, 10), max_covered=0.5)
    source = open_source(np.zeros(labels.shape, np.uint8))
    alone = TiledPrediction(source, LabelDetector(labels), rules)
    alone.run()
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        pids = [worker.pid for worker in cluster.workers.values()]
        with ClusterExecutor(cluster.scheduler_address) as executor:
            assert executor.in_flight == 8
            together = TiledPrediction(source, SlowDetector(labels), rules)

            def kill_one(done, total):
                if done == total // 4:
                    os.kill(pids[0], signal.SIGKILL)

            together.run(kill_one, executor=executor, in_flight=executor.in_flight)
    expected, found = alone.cells(), together.cells()
    assert len(expected) > 100
    for name in ("boxes", "scores", "class_ids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_array_equal(found.masks.bits, expected.masks.bits)


def test_no_scheduler(monkeypatch):
    monkeypatch.setattr("everycell.predict.cluster._TIMEOUT_SECONDS", 0.2)
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1: .*dask scheduler"):
        ClusterExecutor("tcp://127.0.0.1:1")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of dask's own processes and sockets
def test_a_tile_that_ends_every_worker_is_an_error_in_words():
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        ClusterExecutor(cluster.scheduler_address) as executor,
        pytest.raises(EverycellError, match=r"^tcp://.*: a tile ended 1 Dask workers .* at tcp://.*; give them more"),
    ):
        executor.submit(os._exit, 1).result(timeout=60)


class TestHandOn:
    def hand_on(self, remote):
        future = Future()
        _hand_on(future, "tcp://there:1", remote)
        return future

    def test_results_and_our_own_errors_come_as_they_are(self):
        remote, error = Future(), DataError("a.svs: damaged")
        remote.set_result(3)
        assert self.hand_on(remote).result() == 3
        remote = Future()
        remote.set_exception(error)
        assert self.hand_on(remote).exception() is error

    def test_a_lost_scheduler_is_said(self):
        remote = Future()
        remote.cancel()
        with pytest.raises(EverycellError, match=r"^tcp://there:1: the Dask scheduler is gone; start it again: fin"):
            self.hand_on(remote).result()

    def test_what_was_cancelled_here_stays_so(self):
        future, remote = Future(), Future()
        future.cancel()
        remote.set_result(3)
        _hand_on(future, "tcp://there:1", remote)
        assert future.cancelled()
