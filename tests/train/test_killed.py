"""A training process that is killed with SIGKILL goes on to the same end when its command is given again."""

import csv
import json
import random
import time
from contextlib import suppress

import numpy as np
import PIL.Image
import pytest
import tifffile
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from everycell.cli import main
from everycell.datasets import synthetic_sample

EPOCHS = 4
SETTINGS = f"""
[model]
backbone = "resnet18"
backbone_layers = 3
fpn_channels = 16
anchor_sizes = [8, 16, 32, 64]
box_head_channels = 32
mask_head = "wide"
mask_dropout = 0.2
mask_channels = 16
box_batch_per_image = 16
resize_short_px = 64
proposals_train = 50
proposals_test = 50
detections_per_image = 20
[train]
epochs = {EPOCHS}
ema_decay = 0.9
accumulate = 2
balance_classes = 0.5
val_fraction = 0.25
"""


@pytest.fixture
def data(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for i in range(4):
        sample = synthetic_sample(np.random.default_rng(i), (64, 64), 6)
        PIL.Image.fromarray(sample.image.pixels).save(tmp_path / "data" / "images" / f"{i}.png")
        tifffile.imwrite(tmp_path / "data" / "labels" / f"{i}.tif", sample.layers[0].astype(np.uint16))
    return tmp_path / "data"


@pytest.fixture
def start(tmp_path, data, other_processes):
    """`start(out)` starts the command in a process of its own; the very same one again goes on."""
    (tmp_path / "tiny.toml").write_text(SETTINGS)

    def begin(out):
        command = [
            *("train", str(data), "-o", str(out), "--preset", "baseline", "--config", str(tmp_path / "tiny.toml")),
            *("--init-weights", "random", "--device", "cpu", "--no-bf16", "--resume"),
        ]
        process = other_processes.Process(target=main, args=(command,))
        process.start()
        return process

    return begin


def read_record(out):
    return json.loads((out / "run.json").read_text())


def has_begun(out, *, starts, epochs):
    record = read_record(out)
    return len(record["starts"]) >= starts and record["epochs"] >= epochs


def wait_for(process, condition):
    """Until `condition` holds of `run.json`, which appears whole."""
    out_of_time = time.monotonic() + 600
    while time.monotonic() < out_of_time:
        ended = not process.is_alive()
        with suppress(FileNotFoundError):
            if condition():
                return
        assert not ended, f"the process ended first, with exit code {process.exitcode}"
        time.sleep(0.005)
    raise AssertionError("nothing happened in ten minutes")


def test_a_run_that_is_killed_again_and_again_equals_one_that_is_not(start, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(whole)
    process.join()
    assert process.exitcode == 0
    epoch_s = read_record(whole)["seconds"] / EPOCHS

    moments = random.Random(0)
    for epochs in range(EPOCHS - 1):  # the first time as soon as the run has begun
        process = start(killed)
        wait_for(process, lambda n=epochs: has_begun(killed, starts=n + 1, epochs=n))
        time.sleep(moments.uniform(0, 0.8) * epoch_s if epochs else 0)
        process.kill()
        process.join()
    process = start(killed)
    process.join()
    assert process.exitcode == 0

    names = {path.name for path in whole.iterdir()}
    assert {path.name for path in killed.iterdir()} == names
    for name in ("history.csv", "split.csv", "settings.toml"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    for name in ("best.safetensors", "last.safetensors", "resume.safetensors"):
        first, second = load_file(whole / name), load_file(killed / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(value, second[key]) for key, value in first.items())
    record = read_record(killed)
    assert (record["status"], record["epochs"], len(record["starts"])) == ("finished", EPOCHS, EPOCHS)


def test_tensorboard_tells_of_each_epoch_once(start, tmp_path):
    out = tmp_path / "run"
    process = start(out)
    wait_for(process, lambda: read_record(out)["epochs"] >= 2)
    process.kill()
    process.join()
    process = start(out)
    process.join()
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    rows = list(csv.DictReader((out / "history.csv").read_text().splitlines()))
    for name in ("train_loss", "val_loss", "gap", "lr", "val_map", "val_ap50_cell"):
        logged = {event.step: event.value for event in events.Scalars(name)}
        assert len(events.Scalars(name)) == EPOCHS
        assert logged == pytest.approx({int(row["epoch"]): float(row[name]) for row in rows}, rel=1e-6)
