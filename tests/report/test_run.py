import math
from pathlib import Path

import pytest

from everycell.errors import ConfigError, DataError, ModelError
from everycell.report import read_run


def test_a_finished_run(run_folder, data):
    run = read_run(run_folder)
    assert run.class_names == ("cell",)
    assert run.folders == (data,)
    assert run.val_names == ("four", "three", "two")
    assert run.model == run_folder / "best.safetensors"
    assert run.settings["train"]["epochs"] == 3
    assert run.best_row == 1
    assert run.gap(1) == 0.25
    assert run.gap(-1) == 0.625


def test_a_run_without_epochs(tmp_path):
    (tmp_path / "settings.toml").write_text("[train]\nepochs = 7\n")
    run = read_run(tmp_path)
    assert run.settings == {"train": {"epochs": 7}}
    assert len(run.history) == 0
    assert (run.best_row, run.model, run.card, run.split, run.record) == (None, None, None, {}, {})
    assert math.isnan(run.gap(-1))


def test_the_last_model_where_there_is_no_best(run_folder):
    (run_folder / "best.safetensors").rename(run_folder / "last.safetensors")
    assert read_run(run_folder).model == run_folder / "last.safetensors"


def test_facts_that_are_not_there(run_folder):
    run = read_run(run_folder)
    assert run.recorded("parameters", "total") == 43938541
    assert run.recorded("parameters", "total", "of") is None
    assert run.setting("train", "no such") is None


def test_image_names_stay_text(run_folder):
    (run_folder / "split.csv").write_text("image,side\n007,train\nNA,validation\n")
    assert read_run(run_folder).split == {"007": "train", "NA": "validation"}


@pytest.mark.parametrize("path", [".", "missing"])
def test_a_folder_without_a_run(tmp_path, path):
    with pytest.raises(DataError, match=r"is no run folder: expected any of settings.toml, history.csv"):
        read_run(tmp_path / Path(path))


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("history.csv", "", DataError, "not a table"),
        ("history.csv", "epoch,train_loss,val_loss\n1,good,2\n", DataError, "not a table"),
        ("history.csv", "epoch,train_loss\n1,2\n", DataError, "val_loss missing"),
        ("split.csv", "image\na\n", DataError, "side missing"),
        ("split.csv", "image,side\na,b,c\n1,2,3,4\n", DataError, "not a table"),
        ("run.json", "{", DataError, "not JSON"),
        ("run.json", "[]", DataError, "expected an object"),
        ("settings.toml", "epochs", ConfigError, "not TOML"),
        ("best.safetensors", "half a fi", ModelError, "damaged"),
    ],
)
def test_a_damaged_file_is_named(run_folder, name, content, error, message):
    (run_folder / name).write_text(content)
    with pytest.raises(error, match=message) as caught:
        read_run(run_folder)
    assert str(run_folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)
