import json

import pytest

from everycell.errors import ConfigError


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_an_interrupted_run_goes_on(everycell, model, folder, out, monkeypatch):
    detect = model.detect

    def interrupt_second(source, tile):
        if model.windows:
            raise KeyboardInterrupt
        return detect(source, tile)

    monkeypatch.setattr(model, "detect", interrupt_second)
    assert everycell("predict", folder, "-o", out)[0] == 130
    assert [row["image"] for row in json.loads((out / "run.json").read_bytes())["images"]] == ["a"]
    before = (out / "a.labels.tif").stat().st_mtime_ns

    monkeypatch.undo()
    monkeypatch.setattr("everycell.cli.batch.load_model", model.load)
    code, said, _ = everycell("predict", folder, "-o", out)
    assert code == 0
    assert said.startswith("8 cells in 3 of 3 images, 1 of them kept from an earlier run;")
    assert len(model.windows) == 3
    assert (out / "a.labels.tif").stat().st_mtime_ns == before


def test_resumed_and_uninterrupted_runs_write_the_same(everycell, model, folder, out, tmp_path):
    everycell("predict", folder, "-o", tmp_path / "whole")
    everycell("predict", folder / "a.png", "-o", out)
    everycell("predict", folder, "-o", out)
    for path in (tmp_path / "whole").iterdir():
        if path.suffix in (".tif", ".json", ".geojson", ".png") and path.name != "run.json":
            assert (out / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("change", ["image", "output", "position"])
def test_what_changed_is_predicted_again(everycell, model, folder, out, draw, change):
    everycell("predict", folder, "-o", out)
    if change == "image":
        draw(folder / "b.png", 1, 1)
    elif change == "output":
        (out / "b.cells.csv").unlink()
    else:
        (folder / "a.png").rename(folder / "z.png")  # b and c move up, z is new
    everycell("predict", folder, "-o", out)
    assert len(model.seen) == 3 + {"image": 1, "output": 1, "position": 3}[change]


def test_a_failed_image_is_tried_again(everycell, model, folder, out, draw):
    good = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(b"")
    assert everycell("predict", folder, "-o", out)[0] == 1
    (folder / "b.png").write_bytes(good)
    assert everycell("predict", folder, "-o", out)[0] == 0
    assert len(model.seen) == 3


def test_other_settings_are_refused_unless_overwriting(everycell, model, folder, out):
    everycell("predict", folder, "-o", out)
    code, _, err = everycell("predict", folder, "-o", out, "--score-thresh", "0.2", "--mpp", "0.5")
    assert code == 1
    assert err == (
        f"everycell: error: {out}: holds results made with other settings (mpp, score_thresh); "
        "use --overwrite or another folder\n"
    )
    assert len(model.seen) == 3
    assert everycell("predict", folder, "-o", out, "--score-thresh", "0.2", "--overwrite")[0] == 0
    assert len(model.seen) == 6


def test_another_model_file_is_refused(everycell, model, folder, out):
    everycell("predict", folder, "-o", out)
    model.sha256 = "1" * 64
    code, _, err = everycell("predict", folder, "-o", out)
    assert code == 1
    assert "(model_sha256)" in err


def test_another_image_of_the_same_name_is_refused(everycell, model, folder, out, tmp_path, draw):
    everycell("predict", folder / "a.png", "-o", out)
    (tmp_path / "others").mkdir()
    code, _, err = everycell("predict", draw(tmp_path / "others" / "a.png"), "-o", out)
    assert code == 1
    assert f"holds the cells of another a, {folder / 'a.png'}" in err


def test_files_of_unknown_origin_are_not_replaced(everycell, model, folder, out):
    out.mkdir()
    (out / "a.labels.tif").write_text("mine")
    code, _, err = everycell("predict", folder, "-o", out)
    assert code == 1
    assert err == f"everycell: error: {out / 'a.labels.tif'}: already exists; use --overwrite or another folder\n"
    assert (out / "a.labels.tif").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "[]", '{"made_by": {}}', '{"made_by": {}, "images": [7]}'])
def test_a_damaged_record_is_refused(everycell, model, folder, out, content):
    out.mkdir()
    (out / "run.json").write_text(content)
    code, _, err = everycell("predict", folder, "-o", out)
    assert code == 1
    assert err.startswith(f"everycell: error: {out / 'run.json'}: not the record of a run")


def test_a_setting_that_is_wrong_for_every_image_stops_at_once(everycell, model, folder, out, monkeypatch):
    def refuse(*_, **__):
        raise ConfigError("diameter must lie in 1 … 10000, got 0.5")

    monkeypatch.setattr(model, "tiled", refuse)
    code, said, err = everycell("predict", folder, "-o", out, "--diameter", "0.5")
    assert (code, said, err) == (1, "", "everycell: error: diameter must lie in 1 … 10000, got 0.5\n")
