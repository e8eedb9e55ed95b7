"""The ablate command, with networks that train in a second."""

import json

import numpy as np
import pytest
import tifffile

from everycell.cli import main
from everycell.config import ModelSettings, RunSettings, TrainSettings
from everycell.datasets import synthetic_sample

ONE_RUN = ("--steps", "1", "--crop-px", "64", "--init-weights", "random", "--device", "cpu", "--no-bf16")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Four label pairs; the presets are replaced by small networks."""
    for part in ("images", "labels"):
        (tmp_path / "data" / part).mkdir(parents=True)
    for i in range(4):
        sample = synthetic_sample(np.random.default_rng(i), (64, 64), 6)
        tifffile.imwrite(tmp_path / "data" / "images" / f"{i}.tif", sample.image.pixels)
        tifffile.imwrite(tmp_path / "data" / "labels" / f"{i}.tif", sample.layers[0].astype(np.uint16))
    small = {"fpn_channels": 16, "box_head_channels": 32, "mask_channels": 16, "box_batch_per_image": 64}
    presets = {
        "baseline": RunSettings(model=ModelSettings(backbone="resnet18", **small), train=TrainSettings(recipe="none")),
        "reference": RunSettings(
            model=ModelSettings(backbone="resnet34", anchor_sizes=(8, 16, 32, 64, 128), mask_head="wide28", **small),
            train=TrainSettings(recipe="report"),
        ),
    }
    monkeypatch.setattr("everycell.train.ablation.PRESETS", presets)
    return tmp_path / "data"


def run(*arguments):
    with pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    return ending.value.code


def test_a_subset_then_one_row_more(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert not run("ablate", data, "-o", out, "--rows", "baseline", "anchors", "--data-name", "squares", *ONE_RUN)
    shown = capsys.readouterr()
    assert "run 2 of 2: anchors, seed 0" in shown.err
    assert f"written: {out / 'ablation.md'}" in shown.out
    assert "Data: squares, 3 images for training and 1 for validation" in shown.out
    assert "1 steps of 2 crops of 64 px, 1 RoIs sampled in each" in shown.out
    before = (out / "anchors" / "seed0" / "result.json").stat().st_mtime_ns

    assert not run("ablate", data, "-o", out, "--rows", "anchors", "augmentation", "--data-name", "squares", *ONE_RUN)
    assert "run 2 of 2" not in capsys.readouterr().err
    assert (out / "anchors" / "seed0" / "result.json").stat().st_mtime_ns == before
    record = json.loads((out / "ablation.json").read_bytes())
    assert list(record["rows"]) == ["baseline", "augmentation", "anchors"]


def test_other_conditions_and_unknown_rows(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("ablate", data, "-o", out, "--rows", "mask", *ONE_RUN) == 1
    assert "unknown row 'mask'; known are baseline, resnet101" in capsys.readouterr().err
    assert not run("ablate", data, "-o", out, "--rows", "baseline", *ONE_RUN)
    assert run("ablate", data, "-o", out, "--rows", "baseline", *ONE_RUN, "--val-fraction", "0.5") == 1
    assert "val_fraction: 0.2 → 0.5" in capsys.readouterr().err
    assert run("ablate", data, "-o", out, "--steps", "0") == 1
    assert "steps" in capsys.readouterr().err
