import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from everycell.config import ModelSettings, RunSettings, TrainSettings, read_toml, to_toml
from everycell.errors import ConfigError
from everycell.train.presets import PRESETS, get_preset


def message(settings, values) -> str:
    with pytest.raises(ConfigError) as error:
        settings.parse(values, "run.toml")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_unknown_key_lists_the_valid_ones():
    text = message(TrainSettings, {"epoch": 3})
    assert text.startswith("run.toml: unknown setting 'epoch'; valid are init_weights, recipe, crop_px, scale_jitter, ")


def test_unknown_key_of_a_nested_record_lists_that_record():
    text = message(RunSettings, {"model": {"bakbone": "resnet18"}, "train": {}})
    assert text.startswith("run.toml: unknown setting 'model.bakbone'; valid are backbone, backbone_layers, ")
    assert message(RunSettings, {"model": {}, "train": {}, "data": 1}).endswith("'data'; valid are model, train")


@pytest.mark.parametrize(
    ("settings", "values", "expected"),
    [
        (TrainSettings, {"epochs": 0}, "run.toml: epochs: Input should be greater than or equal to 1, got 0"),
        (TrainSettings, {"val_fraction": 1.0}, "run.toml: val_fraction: Input should be less than 1, got 1.0"),
        (TrainSettings, {"learning_rate": 0}, "run.toml: learning_rate: Input should be greater than 0, got 0"),
        (ModelSettings, {"magnification": -1}, "run.toml: magnification: Input should be greater than 0, got -1"),
        (ModelSettings, {"backbone_layers": 2}, "run.toml: backbone_layers: Input should be 3 or 4, got 2"),
        (
            RunSettings,
            {"model": {"backbone": "vgg"}, "train": {}},
            "run.toml: model.backbone: Input should be 'resnet18', 'resnet34', 'resnet50' or 'resnet101', got 'vgg'",
        ),
        (
            ModelSettings,
            {"mask_head": "wider"},
            "run.toml: mask_head: Input should be 'standard', 'wide' or 'wide28', got 'wider'",
        ),
        (RunSettings, {"model": {}}, "run.toml: train: Field required, got {'model': {}}"),
    ],
)
def test_values_out_of_range_say_where_and_what(settings, values, expected):
    assert message(settings, values) == expected


@pytest.mark.parametrize("name", PRESETS)
def test_presets_round_trip_through_toml(name, tmp_path: Path):
    settings = get_preset(name)
    path = tmp_path / "settings.toml"
    path.write_text(to_toml(settings), encoding="utf-8")
    assert RunSettings.parse(read_toml(path), str(path)) == settings


def test_none_is_left_out_of_toml():
    text = to_toml(RunSettings(model=ModelSettings(resize_short_px=512), train=TrainSettings()))
    tables = tomllib.loads(text)
    assert list(tables) == ["model", "train"]
    assert tables["model"]["resize_short_px"] == 512
    assert tables["model"]["anchor_sizes"] == [32, 64, 128, 256, 512]
    assert tables["train"]["bf16"] is True
    assert "crop_px" not in tables["train"]


@given(
    st.floats(1e-12, 1e3),
    st.one_of(st.none(), st.integers(64, 5000)),
    st.text(st.characters(codec="utf-8", exclude_characters="\x7f")),
    st.booleans(),
)
def test_any_settings_round_trip_through_toml(rate, crop_px, recipe, bf16):
    train = TrainSettings(learning_rate=rate, crop_px=crop_px, recipe=recipe, bf16=bf16)
    settings = RunSettings(model=ModelSettings(), train=train)
    assert RunSettings.parse(tomllib.loads(to_toml(settings)), "x") == settings


@pytest.mark.parametrize(("layers", "levels"), [(3, 4), (4, 5)])
def test_pyramid_levels(layers, levels):
    assert ModelSettings(backbone_layers=layers).levels() == levels


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        TrainSettings().epochs = 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "no such settings file"), (b"epochs = ", "not TOML: "), (b"\xff\xfe", "not TOML: ")],
)
def test_unreadable_toml(tmp_path, content, expected):
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=expected) as error:
        read_toml(path)
    assert str(path) in str(error.value)


def test_unknown_preset_lists_the_known():
    with pytest.raises(ConfigError, match="unknown preset 'nucleus'; known are baseline, reference, modern, nuclei"):
        get_preset("nucleus")
