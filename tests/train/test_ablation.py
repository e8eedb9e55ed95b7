import json

import pytest
import torch
from pydantic import ValidationError

from everycell.config import ModelSettings, RunSettings, TrainSettings
from everycell.errors import ConfigError, OutputError
from everycell.train import PRESETS, TrainJob
from everycell.train.ablation import REPORT_AP50, Ablation, AblationSettings, mean_and_sd, row_settings
from everycell.train.ablation_table import summarize, to_markdown, write_ablation

from .test_loop import TINY, Generated, Silent

FULL = "resnet101+augmentation+mask-head+anchors"
CROPS = AblationSettings(steps=2, crop_px=64, val_fraction=0.3, bf16=False, init_weights="random")


class TestRows:
    def test_the_ends_are_the_two_presets(self):
        whole = AblationSettings(steps=1500)
        for row, preset in (("baseline", "baseline"), (FULL, "reference")):
            settings = row_settings(row, whole, seed=3)
            assert settings.model == PRESETS[preset].model
            assert settings.train.recipe == PRESETS[preset].train.recipe
            assert (settings.train.optimizer, settings.train.learning_rate, settings.train.batch_size) == (
                "adam",
                5e-4,
                2,
            )
            assert (settings.train.epochs, settings.train.steps_per_epoch, settings.train.seed) == (30, 50, 3)

    @pytest.mark.parametrize("row", REPORT_AP50)
    def test_switches_that_are_on(self, row):
        settings = row_settings(row, AblationSettings(), 0)
        on = {
            "resnet101": settings.model.backbone == "resnet101",
            "augmentation": settings.train.recipe == "report",
            "mask-head": settings.model.mask_head == "wide",
            "anchors": settings.model.anchor_sizes == (8, 16, 32, 64, 128),
        }
        assert {name for name, value in on.items() if value} == set(row.split("+")) - {"baseline"}

    def test_the_report_s_two_tables(self):
        cumulative = ["baseline", "resnet101", "resnet101+augmentation", "resnet101+augmentation+mask-head", FULL]
        assert [REPORT_AP50[row] for row in cumulative] == [0.23, 0.32, 0.38, 0.39, 0.47]
        assert [REPORT_AP50[row] for row in ("augmentation", "mask-head", "anchors")] == [0.29, 0.25, 0.31]
        assert len(REPORT_AP50) == 8

    def test_crops_keep_the_density_of_rois_and_the_scale(self):
        model = row_settings("anchors", AblationSettings(steps=400, crop_px=256), 0).model
        assert (model.box_batch_per_image, model.resize_short_px) == (128, None)
        assert row_settings("anchors", AblationSettings(crop_px=1024), 0).model.box_batch_per_image == 512

    @pytest.mark.parametrize(("steps", "epochs", "each"), [(1, 1, 1), (50, 1, 50), (51, 2, 26), (400, 8, 50)])
    def test_steps_are_whole_epochs_and_validated_once(self, steps, epochs, each):
        train = row_settings("baseline", AblationSettings(steps=steps), 0).train
        assert (train.epochs, train.steps_per_epoch, train.validate_every) == (epochs, each, epochs)

    def test_no_steps(self):
        with pytest.raises(ValidationError, match="steps"):
            AblationSettings(steps=0)


def test_mean_and_sample_standard_deviation():
    assert mean_and_sd([0.25]) == (0.25, None)
    assert mean_and_sd([1.0, 2.0, 3.0]) == (2.0, pytest.approx(1.0))


@pytest.fixture
def tiny(monkeypatch):
    """The two presets, with networks that train in a second."""
    small = {key: value for key, value in TINY.model_dump().items() if key != "anchor_sizes"} | {"backbone_layers": 4}
    presets = {
        "baseline": RunSettings(
            model=ModelSettings(**small | {"backbone": "resnet18"}, anchor_sizes=(32, 64, 128, 256, 512)),
            train=TrainSettings(recipe="none"),
        ),
        "reference": RunSettings(
            model=ModelSettings(
                **small | {"backbone": "resnet34", "mask_head": "wide"}, anchor_sizes=(8, 16, 32, 64, 128)
            ),
            train=TrainSettings(recipe="report"),
        ),
    }
    monkeypatch.setattr("everycell.train.ablation.PRESETS", presets)
    return presets["baseline"]


def make(tiny, out, rows=("anchors", "baseline"), settings=CROPS, count=4):
    job = TrainJob(Generated(count), tiny, out, data_name="drawn cells", device="cpu")
    return Ablation(job, settings, out, rows)


def test_rows_and_seeds_go_on_where_they_stopped(tiny, tmp_path):
    ablation = make(tiny, tmp_path)
    first, second = ablation.runs()
    assert [first.row, second.row] == ["baseline", "anchors"]
    ablation.train(first, Silent())
    assert ablation.is_done(first)
    assert not ablation.is_done(second)
    assert not (first.folder / "resume.safetensors").exists()
    result = json.loads((first.folder / "result.json").read_bytes())
    assert set(result) == {"ap50", "map", "ap75", "f1_50", "train_loss", "val_loss"}

    more = make(tiny, tmp_path, settings=CROPS.model_copy(update={"seeds": 2}))
    assert [more.is_done(run) for run in more.runs()] == [True, False, False, False]
    again = more.runs()[2]
    assert (again.row, again.seed) == ("baseline", 1)
    more.train(again, Silent())
    assert [run["seed"] for run in more.results()["baseline"]] == [0, 1]
    splits = {(tmp_path / "baseline" / f"seed{seed}" / "split.csv").read_text() for seed in (0, 1)}
    assert len(splits) == 1


def test_a_row_stopped_half_way_ends_the_same(tiny, tmp_path):
    class Impatient(Silent):
        def on_epoch(self, row):
            raise KeyboardInterrupt

    long = CROPS.model_copy(update={"steps": 51})
    results = []
    for name, interrupted in (("once", False), ("twice", True)):
        ablation = make(tiny, tmp_path / name, ["baseline"], long)
        [run] = ablation.runs()
        if interrupted:
            with pytest.raises(KeyboardInterrupt):
                ablation.train(run, Impatient())
            assert not ablation.is_done(run)
        ablation.train(run, Silent())
        results.append(json.loads((run.folder / "result.json").read_bytes()))
    assert results[0] == results[1]


def test_other_conditions_are_refused(tiny, tmp_path):
    make(tiny, tmp_path)
    make(tiny, tmp_path, rows=["mask-head"])
    with pytest.raises(OutputError, match="steps: 2 → 3"):
        make(tiny, tmp_path, settings=CROPS.model_copy(update={"steps": 3}))
    with pytest.raises(OutputError, match="images: 4 → 5"):
        make(tiny, tmp_path, count=5)


def test_unknown_row(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"unknown row 'anchor'; known are baseline, resnet101, .*anchors"):
        make(tiny, tmp_path, rows=["anchor"])


def put(ablation, row, seed, ap50):
    folder = ablation.out / row / f"seed{seed}"
    folder.mkdir(parents=True)
    values = {"ap50": ap50, "map": ap50 / 2, "ap75": ap50 / 4, "f1_50": 0.5, "train_loss": 1.0, "val_loss": 1.5}
    (folder / "result.json").write_text(json.dumps(values))


def test_table(tiny, tmp_path):
    rows = ("baseline", "resnet101", "anchors", "mask-head")
    ablation = make(tiny, tmp_path, rows, CROPS.model_copy(update={"seeds": 2}))
    for row, values in {"baseline": (0.1, 0.2), "resnet101": (0.3, 0.3), "anchors": (0.4, 0.6)}.items():
        for seed, value in enumerate(values):
            put(ablation, row, seed, value)
    record = summarize(ablation, torch.device("cpu"))
    assert list(record["rows"]) == ["baseline", "resnet101", "anchors"]
    assert record["rows"]["anchors"]["ap50"] == {"mean": 0.5, "sd": pytest.approx(0.02**0.5)}
    assert record["rows"]["baseline"]["steps_done"] == 2
    text = to_markdown(record)
    assert "| anchors | 0.500 ± 0.141 | 0.250 ± 0.071 | 0.125 ± 0.035 | 0.500 ± 0.000 | +0.350 | 0.31 | +0.08 |" in text
    assert "| baseline | 0.150 ± 0.071 |" in text
    # The report has resnet101 before anchors: two pairs of three agree, one does not.
    assert "anchors > resnet101 > baseline" in text
    assert "τ with the report's order: 0.33" in text
    assert "from other data" in text
    assert f"({', '.join(record['validation'])})" in text
    assert len(record["validation"]) == 1
    table, figures, picture = write_ablation(ablation, torch.device("cpu"))
    assert table.read_text(encoding="utf-8") == text
    assert json.loads(figures.read_bytes()) == record
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_table_without_a_result(tiny, tmp_path):
    record = summarize(make(tiny, tmp_path), torch.device("cpu"))
    assert record["rows"] == {}
    assert "| configuration |" in to_markdown(record)
