"""Examples that processes of their own make; `test_loop` trains on them."""

import pytest
import torch

from everycell.errors import ConfigError
from everycell.train import prefetch

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "processors", "processes", "expected"),
    [(CPU, 16, 1, 0), (GPU, 16, 1, 12), (GPU, 16, 4, 3), (GPU, 2, 1, 1), (GPU, 1, 1, 0), (GPU, 2, 4, 0)],
)
def test_workers_fill_the_processors_beside_a_gpu(monkeypatch, device, processors, processes, expected):
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    monkeypatch.setattr(prefetch, "_INHERITED", True)
    assert prefetch.choose_workers(None, device, processes) == expected


def test_workers_need_a_system_where_processes_inherit(monkeypatch):
    monkeypatch.setattr(prefetch, "_INHERITED", False)
    assert prefetch.choose_workers(None, GPU, 1) == prefetch.choose_workers(0, GPU, 1) == 0
    with pytest.raises(ConfigError, match=r"--workers must be 0, or more on Linux, got 2"):
        prefetch.choose_workers(2, GPU, 1)


def test_fewer_than_no_workers_are_refused():
    with pytest.raises(ConfigError, match="got -1"):
        prefetch.choose_workers(-1, CPU, 1)
