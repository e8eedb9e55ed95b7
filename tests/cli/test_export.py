"""`everycell export`, and `everycell predict` with what it wrote."""

import csv
import re

import numpy as np
import pytest
import torch
from PIL import Image

from everycell.config import ModelSettings
from everycell.datasets import synthetic_sample
from everycell.models import CellMaskRCNN
from everycell.models.checkpoint import ModelCard, find_model, save_model
from everycell.models.traceable import TraceableMaskRCNN


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    settings = ModelSettings(
        backbone="resnet18",
        backbone_layers=3,
        fpn_channels=8,
        anchor_sizes=(8, 16, 32, 64),
        box_head_channels=8,
        mask_channels=8,
        proposals_test=30,
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    card = ModelCard(name="tiny", settings=settings, class_names=("cell",), score_thresh=0.2)
    save_model(path, CellMaskRCNN(settings, 1).state_dict(), card)
    return path


def test_an_exported_model_predicts_what_the_model_predicts(everycell, model, tmp_path):
    exported = tmp_path / "tiny.torchscript"
    code, out, err = everycell("export", model, "-o", exported, "--to", "torchscript")
    assert (code, err) == (0, "")
    *_, n_same, _, _, n_cells, _, _, name = out.split()
    assert (n_same, name) == (n_cells, "tiny")
    assert int(n_same) > 3
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(tmp_path / "a.png")
    counts = []
    for number, path in enumerate((model, exported)):
        folder = tmp_path / f"out{number}"
        assert everycell("predict", tmp_path / "a.png", "-o", folder, "-m", path, "--no-bf16")[0] == 0
        with (folder / "summary.csv").open() as file:
            [row] = csv.DictReader(file)
        counts.append(int(row["n_cells"]))
    assert counts[0] == counts[1] > 0


def test_a_file_that_is_there_is_kept(everycell, model, tmp_path):
    taken = tmp_path / "tiny.bin"
    taken.write_text("mine")
    code, _, err = everycell("export", model, "-o", tmp_path / "tiny.xml", "--to", "openvino")
    assert code == 1
    assert f"{taken}: already exists; use --overwrite" in err
    assert taken.read_text() == "mine"


def test_an_export_that_finds_other_cells_is_refused(everycell, model, tmp_path, monkeypatch):
    segment = TraceableMaskRCNN.forward

    def inverted(self, *inputs):
        boxes, scores, labels, masks = segment(self, *inputs)
        return boxes, scores, labels, 1 - masks

    monkeypatch.setattr(TraceableMaskRCNN, "forward", inverted)
    code, _, err = everycell("export", model, "-o", tmp_path / "tiny.torchscript", "--to", "torchscript")
    assert code == 1
    assert "tiny.torchscript: finds only" in err


@pytest.mark.slow
def test_8_bit_integers_find_nearly_the_same_and_take_half_the_room(everycell, tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    for number in range(3):
        drawn = synthetic_sample(np.random.default_rng(number), (150, 150), n_cells=40, tissue=True)
        Image.fromarray(drawn.image.pixels).save(tmp_path / f"{number}.png")
    exported = tmp_path / "nuclei.xml"
    code, out, err = everycell("export", "nuclei", "-o", exported, "--to", "openvino", "--int8", tmp_path)
    assert code == 0, err
    assert exported.with_suffix(".bin").stat().st_size < 0.6 * find_model("nuclei").stat().st_size  # that is in float16
    [(n_same, n_cells)] = re.findall(r"on these images, it finds (\d+) of the (\d+) cells of nuclei", out)
    assert int(n_cells) >= int(n_same) > 30


def test_8_bit_integers_without_images(everycell, model, tmp_path):
    exported = tmp_path / "tiny.xml"
    code, _, err = everycell("export", model, "-o", exported, "--to", "openvino", "--int8", tmp_path / "none")
    assert code == 1
    assert f"no such file or folder: {tmp_path / 'none'}" in err
    assert not exported.exists()


def test_a_wrong_suffix_is_told_before_images_are_read(everycell, model, tmp_path):
    code, _, err = everycell("export", model, "-o", tmp_path / "tiny.onnx", "--to", "openvino", "--int8", "none")
    assert code == 1
    assert f"{tmp_path / 'tiny.onnx'}: expected a file name that ends in .xml" in err
