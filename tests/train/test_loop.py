import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from everycell.config import ModelSettings, RunSettings, TrainSettings
from everycell.datasets import synthetic_sample
from everycell.errors import ConfigError, DataError, TrainingError
from everycell.models.checkpoint import load_network, read_card
from everycell.predict import load_model
from everycell.structures import Instances, Sample
from everycell.train import Trainer, TrainJob
from everycell.train.validation import best_threshold, validation_loss

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
        self.rows, self.steps = [], []

    def on_start(self, trainer):
        self.counts = len(trainer.train_source.indices), len(trainer.val_source.indices)

    def on_step(self, epoch, step, losses):
        self.steps.append(step)

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
    values = {"crop_px": 64, "epochs": 2, "ema_decay": 0.9, "recipe": "report", "val_fraction": 0.25} | train
    settings = RunSettings(model=model, train=TrainSettings(**values))
    return TrainJob(Generated(count), settings, out, init_weights="random", device="cpu", data_name="generated")


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
        *("settings.toml", "split.csv", "history.csv", "curves.png", "tensorboard"),
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


def test_a_resumed_run_equals_an_uninterrupted_one(finished, tmp_path):
    out, _ = finished

    class Stop(Silent):
        def on_step(self, epoch, step, losses):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(job(tmp_path), Stop()).run()
    torch.manual_seed(999)
    Trainer(job(tmp_path), Silent()).run(resume=True)
    for name in ("last.safetensors", "best.safetensors"):
        first, second = (load_network(folder / name)[0].state_dict() for folder in (out, tmp_path))
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert (out / "history.csv").read_text() == (tmp_path / "history.csv").read_text()


def test_resuming_with_other_settings_is_refused(finished):
    out, _ = finished
    with pytest.raises(TrainingError, match="other settings"):
        Trainer(job(out, learning_rate=1e-3), Silent()).run(resume=True)


def test_resuming_nothing_is_an_error(tmp_path):
    with pytest.raises(TrainingError, match="nothing to resume"):
        Trainer(job(tmp_path / "new"), Silent()).run(resume=True)


def test_a_loss_that_is_not_finite_names_the_images(tmp_path):
    trainer = Trainer(job(tmp_path), Silent())
    with torch.no_grad():
        trainer.network.roi_heads.box_predictor.cls_score.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"not finite at epoch 1 .*loss_classifier nan.* on images .*image\d"):
        trainer.run()


def test_an_unknown_recipe_fails_at_once(tmp_path):
    with pytest.raises(ConfigError, match="unknown augmentation recipe 'reprot'; known are none, report"):
        Trainer(job(tmp_path, recipe="reprot"), Silent())


def test_one_image_is_too_few(tmp_path):
    with pytest.raises(DataError, match="at least two images"):
        Trainer(job(tmp_path, count=1), Silent())


def test_starting_from_a_model_with_other_classes_is_refused(finished, tmp_path):
    out, _ = finished
    data = Generated()
    data.class_names = ("one",)
    settings = job(tmp_path).settings
    with pytest.raises(ConfigError, match="2 classes"):
        Trainer(TrainJob(data, settings, tmp_path, from_model=out / "last.safetensors"), Silent())


def test_starting_from_a_model_takes_its_weights(finished, tmp_path):
    out, _ = finished
    made = job(tmp_path)
    trainer = Trainer(TrainJob(made.dataset, made.settings, tmp_path, from_model=out / "last.safetensors"), Silent())
    weights = load_network(out / "last.safetensors")[0].state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in trainer.network.state_dict().items())


def test_early_stopping(tmp_path):
    listener = Silent()
    # With a learning rate of almost nothing the mAP of random weights never rises.
    Trainer(job(tmp_path, epochs=9, early_stopping=2, learning_rate=1e-12), listener).run()
    assert len(listener.rows) < 9


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
    scores = np.array([0.9, 0.8, 0.4, 0.6], np.float32)  # cell 4 is the wrong one
    pred = Instances.from_masks(pred.masks, pred.image_size, scores=scores)
    # Kept down to 0.8: 2·2 / (2 + 3) = 0.8; to 0.6: 4/6; to 0.4: 2·3 / (4 + 3) = 0.857.
    thresh, f1 = best_threshold([truth], [pred])
    assert thresh == pytest.approx(0.4, abs=1e-4)
    assert f1 == pytest.approx(6 / 7)


def test_best_threshold_without_a_match():
    truth = Instances.from_labels(np.array([[1, 1]]))
    assert best_threshold([truth], [Instances.empty((1, 2))]) == (0.5, 0.0)
