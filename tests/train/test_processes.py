"""Two processes that train together, against one."""

import csv
import json
import runpy
import socket
from pathlib import Path

import pytest
from safetensors.torch import load_file

from everycell.errors import ConfigError
from everycell.train import processes

SCRIPT = str(Path(__file__).with_name("two_processes.py"))


@pytest.fixture(scope="module")
def two(tmp_path_factory, other_processes):
    """The folder that two processes wrote, with what torchrun puts into their environment."""
    out = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        where = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    started = []
    for rank in ("0", "1"):
        given = {"OUT": out, "ENVIRONMENT": {**where, "RANK": rank, "LOCAL_RANK": rank}}
        started.append(other_processes.Process(target=runpy.run_path, args=(SCRIPT, given, "one_of_two")))
        started[-1].start()
    for process in started:
        process.join(timeout=600)
    assert [process.exitcode for process in started] == [0, 0]
    return out


@pytest.fixture(scope="module")
def script():
    """What the same file does in this process."""
    return runpy.run_path(SCRIPT)


@pytest.fixture(scope="module")
def one(tmp_path_factory, script):
    """The folder that one process wrote, with all four images in one batch."""
    out = tmp_path_factory.mktemp("one")
    script["gradients"](out)
    return out


def read_loss(folder):
    rows = list(csv.DictReader((folder / "run" / "history.csv").read_text().splitlines()))
    return [float(row["train_loss"]) for row in rows]


def assert_same_gradients(first, second):
    expected, got = load_file(first), load_file(second)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert (value - got[name]).abs().max() <= 1e-5 * max(1, value.abs().max()), name


def test_two_processes_have_the_gradients_of_one(one, two):
    for rank in range(2):
        assert_same_gradients(one / "gradients0.safetensors", two / "gradients" / f"gradients{rank}.safetensors")
    assert read_loss(two / "gradients") == pytest.approx(read_loss(one), rel=1e-5)


@pytest.mark.parametrize(("size", "batches"), [(1, 4), (2, 2), (3, 2)])
def test_accumulated_gradients_are_those_of_a_larger_batch(one, script, tmp_path, size, batches):
    script["gradients"](tmp_path, batch_size=size, accumulate=batches)
    assert_same_gradients(one / "gradients0.safetensors", tmp_path / "gradients0.safetensors")


def test_every_image_counts_alike_in_uneven_batches(script, two, tmp_path):
    script["gradients"](tmp_path, images=3)
    for rank in range(2):
        expected = tmp_path / "gradients0.safetensors"
        assert_same_gradients(expected, two / "three_accumulated" / f"gradients{rank}.safetensors")
    assert read_loss(two / "three_accumulated") == pytest.approx(read_loss(tmp_path), rel=1e-5)


def test_processes_with_batch_norm_keep_the_same_parameters(two):
    first, second = (load_file(two / "trained_norms" / f"parameters{rank}.safetensors") for rank in range(2))
    assert any("bn" in name for name in first)
    assert all(bool((first[name] == second[name]).all()) for name in first)


def test_validation_loss_changes_nothing_in_either_process(two):
    assert [(two / "trained_norms" / f"unchanged{rank}").read_text() for rank in range(2)] == ["True", "True"]


def test_a_failure_in_one_process_stops_both_and_names_its_images(two):
    errors = [(two / "one_fails" / f"error{rank}").read_text() for rank in range(2)]
    assert errors[0] == errors[1]
    assert errors[0].startswith("loss is not finite at epoch 1 (")
    # Of the four images of the batch, two are this process's.
    assert errors[0].count("image") == 2 + len(["on images", "check these images"])


def test_the_record_counts_the_processes(two):
    assert json.loads((two / "trained_norms" / "run" / "run.json").read_text())["world_size"] == 2


def test_a_batch_must_be_shareable(script, tmp_path, monkeypatch):
    class Three(processes.Processes):
        def __init__(self, device):
            super().__init__(device)
            self.count = 3

    monkeypatch.setattr("everycell.train.loop.Processes", Three)
    with pytest.raises(ConfigError, match="multiple of their number, got 4 for 3; set batch_size = 6"):
        script["make_trainer"](tmp_path, 5, "random", batch_size=4)
