"""Exported files, run by their own runtimes, against the network they came from."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from everycell.errors import ConfigError, ModelError
from everycell.models.checkpoint import ModelCard
from everycell.models.exported import export_network, exported_files, is_exported, open_exported
from everycell.predict.caps import keep_believed, leave_out_below

PACKAGES = {"onnx": ("onnx", "onnxruntime"), "torchscript": (), "openvino": ("openvino",)}
SUFFIXES = {"onnx": ".onnx", "torchscript": ".torchscript", "openvino": ".xml"}
SIZES = ((96, 128), (33, 70), (200, 310))  # one that was traced is not among them
TOLERANCES = {
    "boxes": 1e-3,
    "scores": 1e-5,
    "labels": 0,
    "masks": 1e-3,
}  # of masks that are 30 times as steep as others


@pytest.fixture(scope="module")
def network(build, small):
    return build(small)


@pytest.fixture(scope="module")
def card(small):
    return ModelCard(name="tiny", settings=small, class_names=("rund, µ", 'a "long" one'), score_thresh=0.37, mpp=0.25)


@pytest.fixture(scope="module", params=PACKAGES)
def path(request, network, card, tmp_path_factory):
    """An exported model, of each format in turn."""
    if missing := [package for package in PACKAGES[request.param] if find_spec(package) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    path = tmp_path_factory.mktemp("exported") / f"tiny{SUFFIXES[request.param]}"
    export_network(network, card, path, request.param)
    return path


@pytest.mark.parametrize("size", SIZES)
def test_it_finds_what_the_network_finds(path, network, size):
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode(), keep_believed(network.rpn), leave_out_below(network.roi_heads, 0.1):
        [wanted], _ = network([image])
    found = open_exported(path).program(image, 0.1)
    assert len(wanted["boxes"]) > 3
    for name, tolerance in TOLERANCES.items():
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=tolerance)


def test_an_image_without_cells(path):
    found = open_exported(path).program(torch.zeros(3, 1, 1), 1.0)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "boxes": (0, 4),
        "scores": (0,),
        "labels": (0,),
        "masks": (0, 1, 28, 28),
    }


def test_results_outlast_the_next_image(path):
    program = open_exported(path).program
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    first = program(image, 0.0)
    before = first["boxes"].clone()
    program(1 - image, 0.0)
    assert torch.equal(first["boxes"], before)


def test_the_card_travels_inside(path, card):
    exported = open_exported(path)
    assert exported.card == card
    assert is_exported(path)
    assert sorted(path.parent.iterdir()) == sorted(exported_files(path))


def test_the_hash_is_of_all_files(path, tmp_path):
    before = open_exported(path).sha256
    for file in exported_files(path):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    copy = tmp_path / path.name
    assert open_exported(copy).sha256 == before
    last = exported_files(copy)[-1]
    if last != copy:
        data = bytearray(last.read_bytes())
        data[-1] ^= 1
        last.write_bytes(data)
        assert open_exported(copy).sha256 != before


def test_a_damaged_file(path, tmp_path):
    damaged = tmp_path / path.name
    damaged.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"cannot read it \(.+\); export the model anew"):
        open_exported(damaged)


def test_a_pickle_is_not_loaded(tmp_path):
    path = tmp_path / "pickled.torchscript"
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="cannot read it"):
        open_exported(path)


def test_a_file_of_another_program(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> twice (float x) => (float y) {y = Add(x, x)}'
    )
    onnx.save(model, tmp_path / "twice.onnx")
    with pytest.raises(ModelError, match="not an everycell model"):
        open_exported(tmp_path / "twice.onnx")


def test_a_suffix_of_another_format(network, card, tmp_path):
    with pytest.raises(ConfigError, match=r"a file name that ends in \.xml for openvino, got '\.onnx'"):
        export_network(network, card, tmp_path / "tiny.onnx", "openvino")


def test_8_bit_integers_are_for_openvino(network, card, tmp_path):
    with pytest.raises(ConfigError, match="8-bit integers are for openvino alone, got onnx"):
        export_network(network, card, tmp_path / "tiny.onnx", "onnx", [torch.rand(3, 64, 64)])


def test_a_runtime_that_is_not_installed(network, card, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"onnx is not installed: pip install 'everycell\[export\]'"):
        export_network(network, card, tmp_path / "tiny.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_makes_8_bit_integers_is_not_installed(network, card, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ConfigError, match=r"nncf is not installed: pip install 'everycell\[int8\]'"):
        export_network(network, card, tmp_path / "tiny.xml", "openvino", [torch.rand(3, 64, 64)])
    assert list(tmp_path.iterdir()) == []


def test_openvino_does_not_count_its_uses(tmp_path):
    """Its counter writes into the home folder when it is imported."""
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    code = "from everycell.models.exported import _package; _package('openvino')"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []
