import json
import tomllib

import numpy as np
import PIL.Image
import pytest
import tifffile

from everycell.config import ModelSettings
from everycell.models import CellMaskRCNN
from everycell.models.checkpoint import ModelCard, save_model


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two images of 256 × 256 px with nine squares of 24 px each."""
    folder = tmp_path_factory.mktemp("data")
    labels = np.zeros((256, 256), np.uint16)
    for i in range(9):
        y, x = 10 + 80 * (i // 3), 14 + 80 * (i % 3)
        labels[y : y + 24, x : x + 24] = i + 1
    for stem in ("a", "b"):
        PIL.Image.fromarray(np.where(labels, 200, 20).astype(np.uint8)).save(folder / f"{stem}.png")
        tifffile.imwrite(folder / f"{stem}_masks.tif", labels)
    return folder


def test_tables_advice_and_json(everycell, data, tmp_path):
    code, out, err = everycell(
        *("anchors", data, "--preset", "baseline,reference", "--magnification", "1"),
        *("--json", tmp_path / "fit.json", "--plot", tmp_path / "fit.png"),
    )
    assert (code, err) == (0, "")
    assert "16–32 px" in out
    snippet = out[out.index("# 1 network px per image px, 5 levels") :]
    advised = ModelSettings(**tomllib.loads(snippet)["model"]).anchor_sizes
    document = json.loads((tmp_path / "fit.json").read_text())
    assert (document["n_images"], document["n_cells"], document["recall"]) == (2, 18, {})
    [fits] = document["scales"].values()
    assert [fit["names"] for fit in fits] == [["baseline"], ["reference"], ["suggested"]]
    assert fits[2]["anchor_sizes"] == list(advised)
    # A 32 px square holds the cell, IoU 24² / 32², where it stands near enough; no known set has anything closer.
    assert fits[2]["overall"]["mean_best_iou"] > 24**2 / 32**2 >= fits[0]["overall"]["mean_best_iou"]
    assert fits[2]["overall"]["covered_50"] == fits[0]["overall"]["covered_50"] == 1
    assert fits[0]["by_size"]["16–32"]["n_cells"] == 18
    with PIL.Image.open(tmp_path / "fit.png") as picture:
        assert picture.size == (750, 630)


def test_each_preset_at_its_own_scale(everycell, data):
    code, out, _ = everycell("anchors", data)
    assert code == 0
    headings = [line for line in out.splitlines() if line.startswith("# ")]
    assert [heading[2:].split(",")[0] for heading in headings] == [
        "short side 512 px (long side at most 1333)",
        "2 network px per image px",
    ]


def test_cells_are_followed_through_a_model(everycell, data, tmp_path):
    settings = ModelSettings(
        backbone="resnet18", backbone_layers=3, fpn_channels=8, anchor_sizes=(24, 32, 64, 128), box_head_channels=8,
        mask_channels=8, proposals_test=5,
    )  # fmt: skip
    card = ModelCard(name="tiny", settings=settings, class_names=("cell",))
    save_model(tmp_path / "tiny.safetensors", CellMaskRCNN(settings, 1).state_dict(), card)
    code, out, _ = everycell(
        *("anchors", data, "--preset", "nuclei", "--limit", "1", "--device", "cpu"),
        *("-m", tmp_path / "tiny.safetensors", "--json", tmp_path / "fit.json"),
    )
    assert code == 0
    assert "Candidates" in out
    recall = json.loads((tmp_path / "fit.json").read_text())["recall"]
    assert list(recall) == ["all", "16–32"]
    assert recall["all"]["n_cells"] == 9
    # Five boxes cover five cells at most.
    assert recall["all"]["proposals"] <= 5 / 9
    assert recall["all"]["anchors"] == recall["16–32"]["anchors"] == 1


def test_an_unknown_preset_lists_the_known_ones(everycell, data):
    code, out, err = everycell("anchors", data, "--preset", "baseline,big")
    assert (code, out) == (1, "")
    assert "unknown preset 'big'; known are baseline, reference" in err
    assert err.count("\n") == 1


def test_no_cells_at_all(everycell, tmp_path):
    PIL.Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a_masks.tif", np.zeros((40, 40), np.uint16))
    code, _, err = everycell("anchors", tmp_path)
    assert code == 1
    assert err == f"everycell: error: {tmp_path}: no cell in 1 images to fit anchors to; give data with true cells\n"
