"""The train command from files on disk to a model that predicts."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import tifffile

from everycell.cli import main
from everycell.datasets import open_dataset, synthetic_sample
from everycell.models.checkpoint import read_card
from everycell.predict import load_model
from everycell.train.before_after import before_after

SETTINGS = """
[model]
backbone = "resnet18"
backbone_layers = 3
fpn_channels = 16
anchor_sizes = [8, 16, 32, 64]
box_head_channels = 32
mask_channels = 16
box_batch_per_image = 16
resize_short_px = 64
[train]
epochs = 1
recipe = "none"
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three cell folders with two classes, and a settings file."""
    root = tmp_path_factory.mktemp("train")
    for i in range(3):
        sample = synthetic_sample(np.random.default_rng(i), (64, 64), 8, n_classes=2)
        folder = root / "data" / f"image{i}"
        folder.mkdir(parents=True)
        tifffile.imwrite(folder / "image.tif", sample.image.pixels)
        for number in (1, 2):
            chosen = np.flatnonzero(sample.class_ids == number) + 1
            mask = np.where(np.isin(sample.layers[0], chosen), sample.layers[0], 0)
            tifffile.imwrite(folder / f"class{number}.tif", mask.astype(np.float64))
    (root / "tiny.toml").write_text(SETTINGS)
    return root


def run(*arguments):
    with pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    return ending.value.code


def train(folders, out, *more):
    return run(
        *("train", folders / "data", "-o", out, "--preset", "baseline", "--config", folders / "tiny.toml"),
        *("--init-weights", "random", "--device", "cpu", "--no-bf16", *more),
    )


def test_train_then_predict(folders, tmp_path, capsys):
    assert not train(folders, tmp_path / "run")
    out, err = capsys.readouterr()
    assert "best.safetensors" in out
    assert "2 images for training, 1 for validation" in err
    assert "classes: class1, class2" in err
    assert re.search(r"\d+\.\d\d s a step, peak memory \d\.\d\d GiB", err)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["folders"] == [str((folders / "data").resolve())]
    card = read_card(tmp_path / "run" / "best.safetensors")
    assert card.class_names == ("class1", "class2")
    assert card.data == "data"
    assert not run(
        *("predict", folders / "data", "-o", tmp_path / "out", "-m", tmp_path / "run" / "best.safetensors"),
        *("--device", "cpu", "--formats", "coco,table"),
    )
    # In cell folders the stem is the folder's name.
    assert (tmp_path / "out" / "image0.coco.json").exists()


def test_validation_images_may_have_a_folder_of_their_own(folders, tmp_path, capsys):
    assert not train(folders, tmp_path / "run", "--validation", folders / "data")
    assert "3 images for training, 3 for validation" in capsys.readouterr().err
    rows = (tmp_path / "run" / "split.csv").read_text().splitlines()
    assert rows[1:] == [f"{side}-image{i},{name}" for side, name in ((1, "train"), (2, "validation")) for i in range(3)]


def test_from_takes_the_settings_of_the_model_and_changes_of_the_file(folders, tmp_path, capsys):
    assert not train(folders, tmp_path / "run")
    capsys.readouterr()
    more = tmp_path / "more.toml"
    more.write_text("[model]\nnms_thresh = 0.4\n[train]\nepochs = 1\n")
    assert not run(
        *("train", folders / "data", "-o", tmp_path / "on", "--from", tmp_path / "run" / "last.safetensors"),
        *("--preset", "baseline", "--config", more, "--device", "cpu", "--no-bf16"),
    )
    assert "last: filled" in capsys.readouterr().err
    before, after = (read_card(tmp_path / name / "last.safetensors").settings for name in ("run", "on"))
    assert before.model_copy(update={"nms_thresh": 0.4}) == after


def fine_tune(folders, out, *more):
    """Two steps on from a model that has learnt nothing."""
    if not (folders / "start").exists():
        train(folders, folders / "start")
    return run(
        *("train", folders / "data", "-o", out, "--from", folders / "start" / "last.safetensors"),
        *("--config", folders / "short.toml", "--device", "cpu", "--no-bf16", *more),
    )


def test_fine_tuning_ends_with_both_models_on_new_and_old_images(folders, tmp_path, capsys):
    (folders / "short.toml").write_text("[train]\nepochs = 1\nsteps_per_epoch = 2\n")
    assert not fine_tune(folders, tmp_path / "run", "--old", folders / "data")
    err = capsys.readouterr().err
    assert "new, held out" in err
    assert "start model  validation" in err
    assert "no epoch did better than the start model" in err  # without any AP on both sides
    settings = (tmp_path / "run" / "settings.toml").read_text()
    assert "crop_px = 256" in settings  # of preset finetune
    assert 'recipe = "none"' in settings  # which the start model was trained with
    with (tmp_path / "run" / "before_after.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["data"], row["n_images"]) for row in rows] == [("new, held out", "1"), ("old", "3")]
    before, after = (
        load_model(path / "best.safetensors", device="cpu") for path in (folders / "start", tmp_path / "run")
    )
    dataset = open_dataset(folders / "data")
    samples = [dataset.load(i) for i in range(3)]
    compared = before_after(before, after, "old", samples, dataset.class_names)
    assert float(rows[1]["ap50_after"]) == pytest.approx(compared.ap50_after)


def test_old_images_need_a_model_to_start_from(folders, tmp_path, capsys):
    assert train(folders, tmp_path / "run", "--old", folders / "data") == 1
    assert "name that with --from" in capsys.readouterr().err


def test_a_second_run_in_the_folder_is_refused(folders, tmp_path, capsys):
    assert not train(folders, tmp_path / "run", "--limit", "2")
    assert train(folders, tmp_path / "run") == 1
    assert "--resume" in capsys.readouterr().err
    assert not train(folders, tmp_path / "run", "--limit", "2", "--resume")  # finished: nothing left to do


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--preset", "grand"), "unknown preset 'grand'; known are baseline, reference, modern, nuclei"),
        (("--limit", "0"), "--limit must be at least 1"),
        (("--epochs", "0"), "train.epochs"),
        (("--init-weights", "missing.safetensors"), "no such weights file"),
        (("--from", "nothing"), "no model named 'nothing'"),
        (("--from", "nuclei", "--init-weights", "random"), "--from and --init-weights both say where to start"),
        (("--limit", "1"), "at least two images, one of them for validation; got 1"),
    ],
)
def test_wrong_settings_end_in_one_line(folders, tmp_path, capsys, more, message):
    arguments = ["train", folders / "data", "-o", tmp_path / "run", "--device", "cpu", "--preset", "baseline", *more]
    if "--preset" in more:
        del arguments[6:8]
    assert run(*arguments) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("everycell: error: ")]
    assert len(lines) == 1
    assert message in lines[0]


def test_unknown_settings_are_named(folders, tmp_path, capsys):
    (tmp_path / "bad.toml").write_text("[train]\nlearning_speed = 3\n")
    assert run("train", folders / "data", "-o", tmp_path / "run", "--config", tmp_path / "bad.toml") == 1
    assert "learning_speed" in capsys.readouterr().err
    (tmp_path / "bad.toml").write_text("[trian]\nepochs = 3\n")
    assert run("train", folders / "data", "-o", tmp_path / "run", "--config", tmp_path / "bad.toml") == 1
    assert "unknown table [trian]; valid are model, train" in capsys.readouterr().err


def test_an_unknown_switch_value_lists_the_known(folders, tmp_path, capsys):
    (tmp_path / "bad.toml").write_text('[model]\nmask_head = "wider"\n')
    assert run("train", folders / "data", "-o", tmp_path / "run", "--config", tmp_path / "bad.toml") == 1
    assert "model.mask_head: Input should be 'standard', 'wide' or 'wide28', got 'wider'" in capsys.readouterr().err


def test_an_empty_folder_is_no_data_set(tmp_path, capsys):
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    assert run("train", tmp_path / "data", "-o", tmp_path / "run") == 1
    assert "has no images; expected images/<stem>.png with labels/<stem>.tif" in capsys.readouterr().err


def spoil_size(mask):
    return mask[:-3]


def spoil_values(mask):
    return mask + 0.5


def spoil_sign(mask):
    return np.where(mask > 0, -mask, mask)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(spoil_size, "61"), (spoil_values, "0.5"), (spoil_sign, "-")],
    ids=["size", "fraction", "sign"],
)
def test_a_bad_class_mask_ends_in_one_line(folders, tmp_path, capsys, spoil, message):
    shutil.copytree(folders / "data", tmp_path / "data")
    path = tmp_path / "data" / "image1" / "class2.tif"
    tifffile.imwrite(path, spoil(tifffile.imread(path)))
    assert run("train", tmp_path / "data", "-o", tmp_path / "run", "--init-weights", "random") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("everycell: error: ")
    assert str(path) in lines[0]
    assert message in lines[0]


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_file_that_is_no_model_ends_in_one_line(folders, tmp_path, capsys, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert run("predict", folders / "data", "-o", tmp_path / "out", "-m", path) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert str(path) in lines[0]
