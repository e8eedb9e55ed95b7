import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import everycell
from everycell.errors import ModelError, OutputError
from everycell.models import count_parameters, init_backbone
from everycell.models.checkpoint import (
    ModelCard,
    file_sha256,
    find_model,
    load_network,
    read_card,
    save_model,
    shipped_models,
)


@pytest.fixture
def card(small) -> ModelCard:
    return ModelCard(
        name="tiny",
        settings=small,
        class_names=("round", "long"),
        score_thresh=0.35,
        mpp=0.5,
        diameter_px=(5.5, 11.0, 30.25),
        data="made-up cells, for a test",
        licence="CC0",
        recipe={"epochs": 3, "jitter": [0.5, 2.0], "crop": None},
        metrics={"validation": {"map": 0.25}},
        versions={"torch": "2.6"},
    )


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "model.safetensors"


def detect(network) -> dict[str, torch.Tensor]:
    image = torch.rand((3, 64, 96), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return network([image])[0][0]


def message(path: Path) -> str:
    texts = set()
    for read in (read_card, load_network):
        with pytest.raises(ModelError) as error:
            read(path)
        texts.add(str(error.value))
    [text] = texts
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def test_round_trip_predicts_the_same(small, build, card, path):
    network = build(small).to(memory_format=torch.channels_last)
    save_model(path, network.state_dict(), card)
    loaded, read = load_network(path)
    assert read == card == read_card(path)
    assert not loaded.training
    found, expected = detect(loaded), detect(network)
    assert len(expected["boxes"]) > 5
    for key, value in expected.items():
        assert torch.equal(found[key], value)


def test_half_is_half_the_size_and_close(small, build, card, path):
    network = build(small)
    network.backbone.body.bn1.running_var[0] = 83_000  # as ImageNet's ResNet-50 has it, and more than float16 holds
    save_model(path, network.state_dict(), card)
    whole = path.stat().st_size
    save_model(path, network.state_dict(), card, half=True)
    assert path.stat().st_size < 0.55 * whole
    loaded, _ = load_network(path)
    for key, value in loaded.state_dict().items():
        assert value.dtype == network.state_dict()[key].dtype
        torch.testing.assert_close(value, network.state_dict()[key], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("source", ["random", "partial"])
def test_trainable_norms_come_back(small, build, card, path, tmp_path, source):
    network = build(small)
    if source == "partial":
        body = network.backbone.body.state_dict()
        source = tmp_path / "backbone.safetensors"
        save_file({key: value for key, value in body.items() if not key.startswith("layer4")}, source)
    init_backbone(network.backbone, small, source)
    network.train()([torch.rand(3, 64, 64)] * 2)  # moves the norms' statistics
    network.eval()
    save_model(path, network.state_dict(), card)
    loaded, _ = load_network(path)
    assert count_parameters(loaded) == count_parameters(network)
    names = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name, p in loaded.named_parameters() if p.requires_grad} == names
    found, expected = detect(loaded), detect(network)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


class TestBadFiles:
    @pytest.fixture
    def good(self, small, build, card, path):
        save_model(path, build(small).state_dict(), card)
        return path

    def test_missing(self, path):
        assert message(path).endswith("no such model file")

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
    def test_truncated(self, good, share):
        content = good.read_bytes()
        good.write_bytes(content[: int(share * len(content))])
        assert "not a .safetensors file, or damaged" in message(good)

    @pytest.mark.parametrize("content", [b"hello, I am a model\n" * 20, b"\x80\x02}q\x00.", b"\xff" * 64])
    def test_another_kind_of_file(self, path, content):
        path.write_bytes(content)
        assert "not a .safetensors file, or damaged" in message(path)

    def test_a_folder(self, path):
        path.mkdir()
        assert message(path).endswith("no such model file")

    def test_not_ours(self, path):
        save_file({"weight": torch.zeros(2)}, path)
        assert "not an everycell model" in message(path)

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda card: card | {"colour": "red"}, "unknown setting 'colour'; valid are name, settings, class_names"),
            (lambda card: card | {"settings": {"depth": 3}}, "unknown setting 'settings.depth'; valid are backbone, "),
            (lambda card: card | {"settings": {"backbone": "vit"}}, "settings.backbone: Input should be 'resnet18'"),
            (lambda card: {"name": "x"}, "settings: Field required"),
            (lambda card: [1], "Input should be a valid dictionary"),
            (lambda card: None, "Input should be a valid dictionary"),
        ],
    )
    def test_a_card_of_another_version(self, good, change, expected):
        card = change(json.loads(read_card(good).model_dump_json()))
        save_file(load_file(good), good, metadata={"everycell": json.dumps(card)})
        text = message(good)
        assert "its card cannot be read by this version" in text
        assert expected in text

    def test_a_card_that_is_no_json(self, path):
        save_file({"weight": torch.zeros(2)}, path, metadata={"everycell": "{name: x}"})
        assert "its card cannot be read by this version" in message(path)

    def test_weights_that_do_not_fit_the_card(self, small, build, card, path):
        save_model(path, build(small, 3).state_dict(), card)
        with pytest.raises(ModelError, match="weights do not fit the settings in its card") as error:
            load_network(path)
        assert "\n" not in str(error.value)

    def test_settings_that_build_no_network(self, small, build, card, path):
        wrong = card.model_copy(update={"settings": small.model_copy(update={"anchor_sizes": (8,)})})
        save_model(path, build(small).state_dict(), wrong)
        with pytest.raises(ModelError, match="anchor_sizes must hold one size for each of 5") as error:
            load_network(path)
        assert str(error.value).startswith(f"{path}: ")

    def test_a_folder_that_is_not_there(self, small, build, card, tmp_path):
        with pytest.raises(OutputError, match="create the folder first"):
            save_model(tmp_path / "none" / "model.safetensors", build(small).state_dict(), card)


def test_models_are_found_by_name_and_by_path(monkeypatch, tmp_path, path):
    path.write_bytes(b"x")
    assert find_model(path) == find_model(str(path)) == path
    shipped = {"nuclei": tmp_path / "a.safetensors", "tissue": tmp_path / "b.safetensors"}
    monkeypatch.setattr("everycell.models.checkpoint.shipped_models", lambda: shipped)
    assert find_model("tissue") == shipped["tissue"]
    with pytest.raises(ModelError, match="no model named 'nucleus' and no such file; shipped models: nuclei, tissue"):
        find_model("nucleus")
    monkeypatch.setattr("everycell.models.checkpoint.shipped_models", dict)
    with pytest.raises(ModelError, match="shipped models: none in this installation"):
        find_model(tmp_path / "absent.safetensors")


def test_every_shipped_model_has_a_card_and_a_licence():
    for name, file in shipped_models().items():
        card = read_card(file)
        assert card.name == name
        assert card.licence
        assert card.data


def test_the_checksums_are_those_of_the_shipped_models():
    models = shipped_models()
    sums = (next(iter(models.values())).parent / "SHA256SUMS").read_text(encoding="utf-8")
    assert sums == "".join(f"{file_sha256(file)}  {file.name}\n" for file in models.values())


def test_sha256(path):
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_nothing_is_ever_unpickled():
    forbidden = re.compile(r"torch\.load|import (cloud)?pickle|pickle\.|allow_pickle=True|joblib|weights_only=False")
    files = list(Path(everycell.__file__).parent.rglob("*.py"))
    assert len(files) > 50
    # What Dask sends between the processes of one run is no file.
    assert [file.name for file in files if forbidden.search(file.read_text(encoding="utf-8"))] == ["cluster.py"]
