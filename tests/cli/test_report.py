import numpy as np
import pytest
import tifffile

from everycell.config import ModelSettings
from everycell.datasets import synthetic_sample
from everycell.models import CellMaskRCNN
from everycell.models.checkpoint import ModelCard, save_model


@pytest.fixture
def run(tmp_path):
    """A run that was stopped after its first epoch and left no model."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "settings.toml").write_text("[train]\nepochs = 7\n")
    (folder / "history.csv").write_text("epoch,train_loss,val_loss\n1,2.5,3.25\n")
    return folder


@pytest.fixture
def data(tmp_path):
    """Label pairs `a` and `b`, each of drawn cells."""
    folder = tmp_path / "data"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for i, name in enumerate(("a", "b")):
        sample = synthetic_sample(np.random.default_rng(i), (64, 64), 6)
        tifffile.imwrite(folder / "images" / f"{name}.tif", sample.image.pixels)
        tifffile.imwrite(folder / "labels" / f"{name}.tif", sample.layers[0].astype(np.uint16))
    return folder


def test_validation_images_are_predicted(everycell, run, data, tmp_path):
    settings = ModelSettings(
        backbone="resnet18",
        backbone_layers=3,
        fpn_channels=16,
        anchor_sizes=(8, 16, 32, 64),
        box_head_channels=32,
        mask_channels=16,
        proposals_test=20,
    )
    card = ModelCard(name="tiny", settings=settings, class_names=("cell",))
    save_model(run / "last.safetensors", CellMaskRCNN(settings, 1).state_dict(), card)
    (run / "split.csv").write_text("image,side\na,train\nb,validation\n")
    code, _, err = everycell(
        "report", run, "-o", tmp_path / "report.html", "--data", data, "--device", "cpu", "--limit", "1"
    )
    assert (code, err) == (0, "")
    page = (tmp_path / "report.html").read_text()
    n_cells = len(np.unique(tifffile.imread(data / "labels" / "b.tif"))) - 1
    assert f"On 1 of 1 validation images with {n_cells} cells." in page
    assert "The last model on 1 validation image" in page
    assert page.count('src="data:image/jpeg;base64,') == 3  # truth, prediction, worst cells


def test_an_unfinished_run_gives_a_report_of_what_is_there(everycell, run, tmp_path):
    code, out, err = everycell("report", run, "-o", tmp_path / "report.html")
    assert code == 0
    assert out == f"report: {tmp_path / 'report.html'}\n"
    assert err == f"everycell: note: no pictures: {run}: no model was saved yet; train at least one epoch\n"
    page = (tmp_path / "report.html").read_text()
    assert "+0.750" in page
    assert "1 of 7 epochs" in page


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("history.csv", "epoch\n1\n", "history.csv: expected the columns epoch, train_loss, val_loss"),
        ("run.json", "{", "run.json: not JSON"),
        ("best.safetensors", "no model", "best.safetensors: not a .safetensors file, or damaged"),
    ],
)
def test_a_damaged_run_ends_in_one_line(everycell, run, tmp_path, name, content, message):
    (run / name).write_text(content)
    code, out, err = everycell("report", run, "-o", tmp_path / "report.html")
    assert (code, out) == (1, "")
    assert err.startswith("everycell: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "report.html").exists()


def test_a_folder_that_is_no_run(everycell, tmp_path):
    code, _, err = everycell("report", tmp_path, "-o", tmp_path / "report.html")
    assert code == 1
    assert "is no run folder" in err


def test_data_that_was_named_must_be_there(everycell, run, tmp_path):
    save_model(run / "best.safetensors", {}, ModelCard(name="x", settings=ModelSettings(), class_names=("cell",)))
    code, _, err = everycell("report", run, "-o", tmp_path / "report.html", "--data", tmp_path / "gone")
    assert code == 1
    assert err.startswith(f"everycell: error: no such folder: {tmp_path / 'gone'};")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("-o", "report.pdf"), 'must have extension "html"'),
        (("-o", "report.html", "--limit", "0"), "Must be >= 1"),
        ((), "--output"),
    ],
)
def test_wrong_usage(everycell, run, more, message):
    code, out, err = everycell("report", run, *more)
    assert (code, out) == (2, "")
    assert message in err
