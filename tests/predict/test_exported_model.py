"""`load_model` on what `export_network` wrote."""

import pickle

import numpy as np
import pytest
import torch

from everycell.config import ModelSettings
from everycell.errors import ConfigError, ModelError
from everycell.models import CellMaskRCNN
from everycell.models.checkpoint import ModelCard, load_network, save_model
from everycell.models.exported import export_network
from everycell.predict import load_model

SETTINGS = ModelSettings(
    backbone="resnet18",
    backbone_layers=3,
    fpn_channels=8,
    anchor_sizes=(8, 16, 32, 64),
    box_head_channels=16,
    mask_channels=8,
    proposals_test=40,
    detections_per_image=15,
    aligned=True,
    normalize="percentile",
    magnification=2.0,
)
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 90, 3), np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model's .safetensors file, and the same exported."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    network = CellMaskRCNN(SETTINGS, 2)
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight.mul_(3)
        network.roi_heads.mask_predictor.mask_fcn_logits.weight.mul_(30)
    card = ModelCard(name="tiny", settings=SETTINGS, class_names=("round", "long"), score_thresh=0.3)
    save_model(folder / "tiny.safetensors", network.state_dict(), card)
    export_network(*load_network(folder / "tiny.safetensors"), folder / "tiny.torchscript", "torchscript")
    return folder / "tiny.safetensors", folder / "tiny.torchscript"


def same(found, expected):
    assert len(found) == len(expected) > 3
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    np.testing.assert_array_equal(found.masks.boxes, expected.masks.boxes)
    assert (found.masks.bits == expected.masks.bits).mean() > 0.999
    assert (found.notes, found.class_names) == (expected.notes, expected.class_names)


def test_an_exported_model_predicts_the_same(files):
    original, exported = (load_model(path, device="cpu", bf16=False) for path in files)
    same(exported.predict(PIXELS), original.predict(PIXELS))
    same(
        exported.predict(PIXELS, score_thresh=0.1, views="flips"),
        original.predict(PIXELS, score_thresh=0.1, views="flips"),
    )
    assert exported.sha256 != original.sha256


def test_the_limit_of_cells_is_told(files):
    cells = load_model(files[1], device="cpu").predict(PIXELS, score_thresh=0.0)
    assert any("reached the cap of 15 detections" in note for note in cells.notes)


def test_another_process_can_load_it_again(files):
    exported = load_model(files[1])
    same(pickle.loads(pickle.dumps(exported)).predict(PIXELS), exported.predict(PIXELS))


def test_what_an_exported_model_cannot_do(files):
    with pytest.raises(ModelError, match=r"tiny\.torchscript: an exported model can only predict"):
        _ = load_model(files[1]).network


def test_it_runs_on_the_cpu_alone(files, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match=r"exported models run on the CPU; use the \.safetensors file with cuda"):
        load_model(files[1], device="cuda")
    assert load_model(files[1], device="auto").device == torch.device("cpu")
