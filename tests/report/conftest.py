"""Run folders made by hand, and a model that knows the answers, so that pages are tested without a network."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest
import tifffile

from everycell.config import ModelSettings, RunSettings, TrainSettings, to_toml
from everycell.models.checkpoint import ModelCard, save_model
from everycell.structures import Instances

HISTORY = """epoch,lr,train_loss,loss_mask,val_loss,gap,val_map,val_ap50,val_ap75,val_f1_50,val_ap_cell,val_ap50_cell
1,0.001,2.0,0.5,1.5,-0.5,,,,,,
2,0.001,1.0,0.25,1.25,0.25,0.4,0.7,0.35,0.8,0.4,0.7
3,0.0005,0.75,0.2,1.375,0.625,0.3,0.6,0.25,0.7,0.3,0.6
"""
NAMES = ("one", "two", "three", "four")
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Text, tables and links of a page; every tag must be closed in its turn."""

    def __init__(self, html):
        super().__init__()
        self.stack, self.texts, self.attributes, self.tags = [], [], [], set()
        self.feed(html)
        assert self.stack == []
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "style" not in self.stack:
            self.texts.append(data)


@pytest.fixture
def parse():
    """Reads a page."""
    return Page


class StubModel:
    """Finds the bright squares but the first, and one 4 by 4 px cell that is not there."""

    def __init__(self, card):
        self.class_names = card.class_names

    def predict(self, image, *, score_thresh):
        assert score_thresh == 0.05
        labels = np.unique(image.pixels[..., 0], return_inverse=True)[1].reshape(image.size)
        labels[labels == 1] = 0
        labels[-6:-2, -6:-2] = labels.max() + 1
        found = Instances.from_labels(labels)
        # The wrong cell scores under the card's threshold of 0.5, so it counts for AP alone.
        scores = np.full(len(found), 0.9, np.float32)
        scores[-1] = 0.3
        return replace(found, scores=scores, class_names=self.class_names)


@pytest.fixture
def stub_model(monkeypatch):
    """`StubModel` in place of the model in the run folder."""
    from everycell.models.checkpoint import read_card

    monkeypatch.setattr(
        "everycell.report.examination.load_model", lambda path, *, device, bf16: StubModel(read_card(path))
    )


@pytest.fixture
def data(tmp_path):
    """Label pairs: image number i (from 0) holds i + 2 squares of 8 by 8 px, each of its own brightness."""
    folder = tmp_path / "data"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for i, name in enumerate(NAMES):
        labels = np.zeros((40, 60), np.uint16)
        for k in range(i + 2):
            labels[4:12, 10 * k + 2 : 10 * k + 10] = k + 1
        PIL.Image.fromarray((labels * 40).astype(np.uint8)).convert("RGB").save(folder / "images" / f"{name}.png")
        tifffile.imwrite(folder / "labels" / f"{name}.tif", labels)
    return folder


def _write_model(folder, class_names=("cell",)):
    card = ModelCard(name="run", settings=ModelSettings(), class_names=class_names, score_thresh=0.5, data="squares")
    save_model(folder / "best.safetensors", {}, card)


@pytest.fixture
def write_model():
    """`write_model(folder, class_names)` saves a best model of these classes, without weights."""
    return _write_model


@pytest.fixture
def run_folder(tmp_path, data):
    """A finished run of three epochs on `data`, whose images two, three and four are held out."""
    folder = tmp_path / "my run"
    folder.mkdir()
    settings = RunSettings(model=ModelSettings(), train=TrainSettings(epochs=3))
    (folder / "settings.toml").write_text(to_toml(settings))
    (folder / "history.csv").write_text(HISTORY)
    sides = {name: "train" if name == "one" else "validation" for name in NAMES}
    (folder / "split.csv").write_text("image,side\n" + "".join(f"{k},{v}\n" for k, v in sorted(sides.items())))
    record = {
        "status": "finished",
        "starts": ["2026-01-02T03:04:05+00:00"],
        "seconds": 3725.4,
        "peak_memory": 3 * 2**30,
        "peak_memory_of": "allocated on the GPU",
        "versions": {"everycell": "9.8.7", "torch": "6.5.4"},
        "platform": "TestOS-1.0",
        "device": "cuda:0",
        "precision": "bfloat16",
        "world_size": 2,
        "init": "filled 300 of 318 tensors",
        "parameters": {"trained": 43716141, "total": 43938541},
        "class_names": ["cell"],
        "data": {
            "name": "squares",
            "folders": [str(data)],
            "fingerprint": "sha256:0123abcd",
            "cells": {"train": {"cell": 2}, "validation": {"cell": 12}},
        },
        "notes": [],
    }
    (folder / "run.json").write_text(json.dumps(record))
    _write_model(folder)
    return folder
