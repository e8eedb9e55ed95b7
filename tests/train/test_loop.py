import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from everycell.config import ModelSettings, RunSettings, TrainSettings
from everycell.datasets import synthetic_sample
from everycell.errors import ConfigError, DataError, TrainingError
from everycell.models.checkpoint import load_network, read_card
from everycell.predict import load_model
from everycell.structures import Instances, Sample
from everycell.train import Trainer, TrainJob
from everycell.train.validation import Validation, best_threshold, validation_loss

TINY = ModelSettings(
    backbone="resnet18",
    backbone_layers=3,
    fpn_channels=16,
    anchor_sizes=(8, 16, 32, 64),
    box_head_channels=32,
    mask_channels=16,
    aligned=True,
    box_batch_per_image=16,
    proposals_train=50,
    proposals_test=50,
)


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


class Silent:
    def __init__(self):
        self.rows, self.steps, self.losses = [], [], []

    def on_start(self, trainer):
        self.counts = len(trainer.train_source.indices), len(trainer.val_source.indices)

    def on_step(self, epoch, step, losses):
        self.steps.append(step)
        self.losses.append(losses)

    def on_epoch(self, row):
        self.rows.append(row)


class Generated:
    class_names = ("small", "large")

    def __init__(self, count=4):
        self.names = tuple(f"image{i}" for i in range(count))
        self.samples = [
            synthetic_sample(np.random.default_rng(i), (64, 72), 6, n_classes=2, name=name)
            for i, name in enumerate(self.names)
        ]
        # One image without any cell.
        last = self.samples[-1]
        self.samples[-1] = Sample(last.name, last.image, np.zeros_like(last.layers), np.zeros(0, np.int64))

    def __len__(self):
        return len(self.samples)

    def load(self, i):
        return self.samples[i]

    def image_path(self, i):
        return Path(self.names[i])


def job(out, *, count=4, model=TINY, **train):
    values = {
        "crop_px": 64,
        "epochs": 2,
        "ema_decay": 0.9,
        "recipe": "report",
        "val_fraction": 0.25,
        "init_weights": "random",
    } | train
    settings = RunSettings(model=model, train=TrainSettings(**values))
    return TrainJob(Generated(count), settings, out, device="cpu", data_name="generated")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    listener = Silent()
    Trainer(job(out), listener).run()
    return out, listener


def test_a_run_leaves_its_files(finished):
    out, listener = finished
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("settings.toml", "split.csv", "history.csv", "curves.png", "tensorboard", "run.json"),
        *("best.safetensors", "last.safetensors", "resume.safetensors"),
    }
    rows = read_csv(out / "history.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    terms = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask")
    assert float(rows[0]["train_loss"]) == pytest.approx(sum(float(rows[0][term]) for term in terms))
    assert listener.steps == [1, 2, 3, 4]
    assert listener.counts == (3, 1)
    sides = [row["side"] for row in read_csv(out / "split.csv")]
    assert sorted(sides) == ["train"] * 3 + ["validation"]


def test_the_model_file_predicts_and_knows_its_classes(finished):
    out, _ = finished
    model = load_model(out / "best.safetensors", device="cpu", bf16=False)
    assert model.class_names == ("small", "large")
    assert read_card(out / "best.safetensors").data == "generated"
    assert model.predict(Generated().load(0).image, score_thresh=0.0).image_size == (64, 72)


def test_losses_go_to_tensorboard(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out, listener = finished
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    scalars = events.Tags()["scalars"]
    assert {"train_loss", "val_loss", "loss_mask", "lr", "val_map"} <= set(scalars)
    logged = [event.value for event in events.Scalars("val_loss")]
    assert logged == pytest.approx([row["val_loss"] for row in listener.rows], rel=1e-6)


def assert_same_run(*folders):
    for name in ("last.safetensors", "best.safetensors"):
        first, second = (load_network(folder / name)[0].state_dict() for folder in folders)
        assert all(torch.equal(first[key], second[key]) for key in first)
    first, second = ((folder / "history.csv").read_text() for folder in folders)
    assert first == second


def test_a_resumed_run_equals_an_uninterrupted_one(finished, tmp_path):
    out, _ = finished

    class Stop(Silent):
        def on_step(self, epoch, step, losses):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(job(tmp_path), Stop()).run()
    record = read_record(tmp_path)
    assert (record["status"], record["epochs"], record["steps"]) == ("interrupted", 1, 2)
    torch.manual_seed(999)
    Trainer(job(tmp_path), Silent()).run(resume=True)
    assert_same_run(out, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes do not inherit what is in memory")
def test_processes_that_make_examples_change_nothing(finished, tmp_path):
    out, _ = finished
    Trainer(replace(job(tmp_path), workers=2), Silent()).run()
    assert_same_run(out, tmp_path)


def test_resuming_with_other_settings_lists_each_difference(finished):
    out, _ = finished
    with pytest.raises(TrainingError, match="other settings or data") as error:
        Trainer(job(out, learning_rate=1e-3, early_stopping=4, scale_jitter=(0.5, 1.0)), Silent()).run(resume=True)
    for change in (
        "train.learning_rate: 0.0005 → 0.001",
        "train.early_stopping: None → 4",
        "train.scale_jitter: [1.0, 1.0] → [0.5, 1.0]",
    ):
        assert change in str(error.value)
    assert str(error.value).count("→") == 3


def test_resuming_with_other_data_is_refused(finished):
    out, _ = finished
    other = job(out)
    other.dataset.samples[0].image.pixels[0, 0, 0] ^= 1
    with pytest.raises(TrainingError, match=r"\(data: [0-9a-f]{64} → [0-9a-f]{64}\)"):
        Trainer(other, Silent()).run(resume=True)


def test_resuming_nothing_starts_from_the_beginning(finished, tmp_path):
    trainer = Trainer(job(tmp_path), Silent())
    trainer.run(resume=True)
    assert trainer.notes == [f"no finished epoch in {tmp_path}: starting from the beginning"]
    assert (tmp_path / "history.csv").read_text() == (finished[0] / "history.csv").read_text()


def test_a_run_without_its_resume_file_is_not_started_anew(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "resume.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"resume\.safetensors: missing"):
        Trainer(job(tmp_path), Silent()).run(resume=True)
    assert (tmp_path / "best.safetensors").exists()


def test_a_new_run_leaves_nothing_of_an_earlier_one(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / ".everycell-1f.png").touch()  # left by a process that was killed while it wrote

    class Look(Silent):
        def on_start(self, trainer):
            self.found = sorted(path.name for path in tmp_path.iterdir())

    listener = Look()
    Trainer(job(tmp_path, epochs=1), listener).run()
    assert listener.found == ["run.json", "settings.toml", "split.csv", "tensorboard"]


def test_a_loss_that_is_not_finite_names_the_images(tmp_path):
    trainer = Trainer(job(tmp_path), Silent())
    with torch.no_grad():
        trainer.network.roi_heads.box_predictor.cls_score.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"not finite at epoch 1 .*loss_classifier nan.* on images .*image\d"):
        trainer.run()
    assert (read_record(tmp_path)["status"], read_record(tmp_path)["epochs"]) == ("interrupted", 0)
    Trainer(job(tmp_path, epochs=2), Silent())._resume()  # no finished epoch: the same command starts anew


def test_an_unknown_recipe_fails_at_once(tmp_path):
    with pytest.raises(ConfigError, match="unknown augmentation recipe 'reprot'; known are none, report"):
        Trainer(job(tmp_path, recipe="reprot"), Silent())


@pytest.mark.parametrize("count", [0, 1])
def test_one_image_is_too_few(tmp_path, count):
    made = job(tmp_path)
    made.dataset.samples, made.dataset.names = made.dataset.samples[:count], made.dataset.names[:count]
    with pytest.raises(DataError, match=f"at least two images, one of them for validation; got {count}"):
        Trainer(made, Silent())


def test_training_on_all_images_saves_the_last_model_as_best(tmp_path):
    best = Trainer(job(tmp_path, val_fraction=0, schedule="cosine", epochs=2), Silent()).run()
    assert best.read_bytes() == (tmp_path / "last.safetensors").read_bytes()
    assert set(pd.read_csv(tmp_path / "split.csv")["side"]) == {"train"}
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["train_loss"].notna().all()
    assert history[["val_loss", "gap", "val_map"]].isna().all(axis=None)


@pytest.mark.parametrize("needs", [{"schedule": "plateau"}, {"schedule": "cosine", "early_stopping": 2}])
def test_what_needs_validation_is_refused_without_images(tmp_path, needs):
    with pytest.raises(ConfigError, match="without validation images the schedule must be cosine"):
        Trainer(job(tmp_path, val_fraction=0, **needs), Silent())


def test_starting_from_a_model_takes_its_weights(finished, tmp_path):
    out, _ = finished
    trainer = Trainer(job(tmp_path, init_weights=str(out / "last.safetensors")), Silent())
    weights = load_network(out / "last.safetensors")[0].state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in trainer.network.state_dict().items())


@pytest.mark.parametrize(("every", "epochs"), [(1, 3), (2, 6)])
def test_early_stopping_counts_epochs_since_the_best(tmp_path, monkeypatch, every, epochs):
    scores = iter([0.2, 0.1, 0.2, 0.3])  # the best is the first; as good is not better
    monkeypatch.setattr("everycell.train.loop.validate", lambda model, samples: with_map(next(scores)))
    monkeypatch.setattr("everycell.train.loop.validation_loss", lambda *_, **__: 1.0)
    monkeypatch.setattr(Trainer, "_step", lambda *_: {"loss_mask": 1.0})
    listener = Silent()
    settings = {"epochs": 9, "early_stopping": 2 * every, "validate_every": every, "schedule": "cosine"}
    Trainer(job(tmp_path, **settings), listener).run()
    assert len(listener.rows) == epochs
    assert read_record(tmp_path)["status"] == "stopped early"
    assert read_card(tmp_path / "best.safetensors").recipe["epoch"] == every
    # A run that has ended stays ended.
    again = Silent()
    Trainer(job(tmp_path, **settings), again).run(resume=True)
    assert again.rows == []


def with_map(value):
    return Validation(value, value, value, 0.5, 0.0, 1, {"small": value, "large": value}, {"small": 0, "large": 0})


def read_record(out):
    return json.loads((out / "run.json").read_text())


def test_the_history_holds_the_gap_and_every_class(finished):
    out, listener = finished
    assert list(read_csv(out / "history.csv")[0])[-6:] == [
        *("val_ap75", "val_f1_50"),
        *("val_ap_small", "val_ap_large", "val_ap50_small", "val_ap50_large"),
    ]
    for row in listener.rows:
        assert row["gap"] == row["val_loss"] - row["train_loss"]
        known = [row[f"val_ap50_{name}"] for name in ("small", "large") if row[f"val_ap50_{name}"] is not None]
        assert row["val_ap50"] == pytest.approx(np.mean(known))


def test_the_run_describes_itself(finished):
    out, _ = finished
    record, data = read_record(out), Generated()
    trainer = Trainer(job(out), Silent())
    assert (record["status"], record["epochs"], record["steps"]) == ("finished", 2, 4)
    assert (record["device"], record["world_size"], record["seed"]) == ("cpu", 1, 0)
    assert record["precision"] == ("bfloat16" if trainer.bf16 else "float32")
    assert record["parameters"]["trained"] == sum(p.numel() for p in trainer.network.parameters() if p.requires_grad)
    assert record["parameters"]["total"] == sum(p.numel() for p in trainer.network.parameters())
    assert record["versions"]["torch"] == torch.__version__
    assert record["class_names"] == ["small", "large"]
    assert record["init"].startswith("random: filled 0 backbone tensors")
    assert record["data"]["name"] == "generated"
    assert record["data"]["images"] == {"train": 3, "validation": 1}
    cells = record["data"]["cells"]
    for number, name in enumerate(("small", "large"), start=1):
        everywhere = sum(int((sample.class_ids == number).sum()) for sample in data.samples)
        assert cells["train"][name] + cells["validation"][name] == everywhere
    assert record["starts"][0] <= record["ended"]
    assert 0 < record["seconds_per_step"] * 4 < record["seconds"] + 0.1
    assert record["peak_memory"] > 50e6  # torch alone is larger


def test_a_class_without_cells_is_noted_and_training_goes_on(tmp_path):
    made = job(tmp_path, epochs=1)
    small = [Sample(s.name, s.image, s.layers, np.ones_like(s.class_ids)) for s in made.dataset.samples]
    made.dataset.samples = [made.dataset.samples[0], *small[1:]]  # only image 0 has cells of class 2
    listener = Silent()
    trainer = Trainer(replace(made, held_out=[2]), listener)
    trainer.run()
    note = "class large has no cell in the validation images: its AP is not known and not part of the mean"
    assert trainer.notes == read_record(tmp_path)["notes"] == [note]
    [row] = listener.rows
    assert row["val_ap_large"] is None
    assert row["val_map"] == row["val_ap_small"]


def test_without_any_cell_to_validate_the_last_model_is_the_best(tmp_path):
    listener = Silent()
    trainer = Trainer(replace(job(tmp_path, early_stopping=1), held_out=[3]), listener)
    trainer.run()
    assert [row["val_map"] for row in listener.rows] == [None, None]
    assert len(trainer.notes) == 2
    best, last = (load_network(tmp_path / f"{name}.safetensors")[0].state_dict() for name in ("best", "last"))
    assert all(torch.equal(best[key], last[key]) for key in best)


def test_a_smaller_last_step_counts_its_images_alike(tmp_path):
    listener = Silent()
    # Three training images: a step of two batches of one, and a step of one.
    trainer = Trainer(job(tmp_path, batch_size=1, accumulate=2, epochs=1), listener)
    trainer.run()
    assert trainer.schedule.steps == trainer.steps_per_epoch == 2
    assert listener.steps == [1, 2]
    terms = [listener.losses[i]["loss_objectness"] for i in range(2)]
    assert listener.rows[0]["loss_objectness"] == pytest.approx(np.mean(terms))
    assert terms[1] > 0.5 * terms[0]  # a mean, not a share of one


def test_validation_loss_disturbs_nothing(tmp_path):
    trainer = Trainer(job(tmp_path, model=TINY.model_copy(update={"mask_head": "wide"})), Silent())
    before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    random = torch.get_rng_state()
    device = torch.device("cpu")
    losses = [validation_loss(trainer.network, trainer.val_source, device, bf16=False, limit=None) for _ in range(2)]
    assert losses[0] == losses[1]
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in trainer.network.state_dict().items())
    assert any("running_mean" in key for key in before)


def test_best_threshold_by_hand():
    truth = Instances.from_labels(np.array([[1, 1, 0, 2, 2, 0, 3, 3]]))
    # Right, right, wrong, right, in the order of their scores; the third true cell is found last.
    pred = Instances.from_labels(np.array([[1, 1, 0, 2, 2, 4, 3, 3]]))
    scores = np.array([0.9, 0.8, 0.40005, 0.6], np.float32)  # cell 4 is the wrong one
    pred = Instances.from_masks(pred.masks, pred.image_size, scores=scores)
    # Kept down to 0.8: 2·2 / (2 + 3) = 0.8; to 0.6: 4/6; to 0.40005: 2·3 / (4 + 3) = 0.857.
    thresh, f1 = best_threshold([truth], [pred])
    assert thresh == 0.4
    assert f1 == pytest.approx(6 / 7)


def test_best_threshold_without_a_match():
    truth = Instances.from_labels(np.array([[1, 1]]))
    assert best_threshold([truth], [Instances.empty((1, 2))]) == (0.5, 0.0)


def test_the_saved_model_keeps_a_share_of_the_start_model(finished, tmp_path):
    start = finished[0] / "best.safetensors"
    trainer = Trainer(
        job(tmp_path, init_weights=str(start), keep_start=0.25, ema_decay=0.0, learning_rate=0.01, epochs=1), Silent()
    )
    trainer.run()
    before = load_network(start)[0].state_dict()
    after = load_network(tmp_path / "last.safetensors")[0].state_dict()
    trained = trainer.network.state_dict()
    name = "roi_heads.mask_predictor.conv5_mask.weight"
    assert (trained[name] - before[name]).abs().max() > 0.01
    for name in before:
        if before[name].is_floating_point():
            torch.testing.assert_close(after[name], 0.25 * before[name] + 0.75 * trained[name])


@pytest.mark.parametrize(("after", "epoch"), [(0.3, 0), (0.5, 2)])
def test_the_start_model_stays_the_best_where_no_epoch_does_better(finished, tmp_path, monkeypatch, after, epoch):
    start, scores = finished[0] / "best.safetensors", iter([0.4, 0.3, after])
    monkeypatch.setattr("everycell.train.loop.validate", lambda model, samples: with_map(next(scores)))
    listener = Silent()
    best = Trainer(job(tmp_path, init_weights=str(start), keep_start=0.5, learning_rate=0.01), listener).run()
    assert [row["epoch"] for row in listener.rows] == [0, 1, 2]
    assert listener.rows[0]["val_map"] == 0.4
    assert len(read_csv(tmp_path / "history.csv")) == 2
    assert read_card(best).recipe["epoch"] == epoch
    assert read_card(best).metrics["validation"]["map"] == max(0.4, after)
    before, kept = (load_network(path)[0].state_dict() for path in (start, best))
    assert all(torch.equal(kept[name], before[name]) for name in before) == (epoch == 0)


def test_keeping_a_share_needs_a_whole_start_model(tmp_path):
    with pytest.raises(ConfigError, match=r"keep_start needs .* a whole everycell model"):
        Trainer(job(tmp_path, keep_start=0.5), Silent())
