"""`everycell models` and `everycell doctor`, with a tiny network as the only shipped model."""

import hashlib

import pytest

from everycell.config import ModelSettings
from everycell.models import CellMaskRCNN
from everycell.models.checkpoint import ModelCard, save_model


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    settings = ModelSettings(
        backbone="resnet18",
        backbone_layers=3,
        fpn_channels=8,
        anchor_sizes=(8, 16, 32, 64),
        box_head_channels=8,
        mask_channels=8,
    )
    card = ModelCard(
        name="tiny",
        settings=settings,
        class_names=("round", "long"),
        data="two blobs",
        licence="CC0",
        metrics={"f1_50": 0.8126},
    )
    path = tmp_path / "tiny.safetensors"
    save_model(path, CellMaskRCNN(settings, 2).state_dict(), card, half=True)
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  tiny.safetensors\n")
    monkeypatch.setattr("everycell.models.checkpoint.shipped_models", lambda: {"tiny": path})
    return path


def test_models_lists_the_card(everycell, shipped):
    code, out, _ = everycell("models")
    assert code == 0
    header, row = out.splitlines()
    assert header.split() == ["name", "classes", "trained", "on", "licence", "size", "F1"]
    assert row.split("  ")[0] == "tiny"
    assert all(part in row for part in ("round, long", "two blobs", "CC0", "0.813"))
    assert f"{shipped.stat().st_size / 1e6:.1f} MB" in row


def test_models_says_when_there_is_none(everycell, monkeypatch):
    monkeypatch.setattr("everycell.models.checkpoint.shipped_models", dict)
    assert everycell("models")[:2] == (0, "no models come with this installation; train one with `everycell train`\n")


def test_doctor_finds_nothing_wrong(everycell, shipped):
    code, out, _ = everycell("doctor")
    assert code == 0
    *checks, verdict = out.splitlines()
    assert [line.split()[:2] for line in checks] == [
        ["ok", name] for name in ("versions", "network", "device", "memory", "disk", "models")
    ]
    assert verdict == "everything works"


def test_doctor_finds_a_changed_model(everycell, shipped):
    data = bytearray(shipped.read_bytes())
    data[-1] ^= 1
    shipped.write_bytes(data)
    code, out, _ = everycell("doctor")
    assert code == 1
    assert f"BROKEN  models        {shipped}: differs from the released tiny model; reinstall everycell" in out
    assert "1 of 6 checks failed" in out


def test_doctor_finds_missing_models(everycell, monkeypatch):
    monkeypatch.setattr("everycell.models.checkpoint.shipped_models", dict)
    code, out, _ = everycell("doctor")
    assert code == 1
    assert "no models come with this installation" in out
