"""What the documentation says is so: commands, names, tables and figures."""

import ast
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import everycell
from everycell.cli import main
from everycell.evaluate import Evaluator
from everycell.structures import Instances
from everycell.train import PRESETS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks(language):
    return [
        code for page in PAGES for kind, code in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language
    ]


def test_python_examples_use_public_names():
    for code in _blocks("python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("everycell"):
                assert {alias.name for alias in node.names} <= set(import_module(node.module).__all__)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "everycell":
                assert node.attr in everycell.__all__


def test_commands_have_the_options_that_are_shown(capsys):
    shown: dict[str, set[str]] = {}
    for code in _blocks(""):
        for command, rest in re.findall(r"^everycell (\w+)((?:.|\n +)*)", code, re.MULTILINE):
            options = re.findall(r"(?<![\w-])--?[a-z][\w-]*", rest.split("#")[0])
            shown.setdefault(command, set()).update(options)
    assert {"predict", "figure", "evaluate", "train"} <= shown.keys()
    for command, options in shown.items():
        with pytest.raises(SystemExit):
            main([command, "--help"])
        known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", capsys.readouterr().out))
        assert options <= known, command


def _cell(value):
    if isinstance(value, tuple):
        return ", ".join(f"{number:g}" for number in value)
    if value is None or isinstance(value, bool):
        return {None: "–", True: "true", False: "false"}[value]
    return value if isinstance(value, str) else f"{value:g}"


def test_the_table_of_presets_is_that_of_the_code():
    text = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    for table in ("model", "train"):
        section = text.split(f"### `[{table}]`")[1].split("###")[0]
        rows = [row.split(" | ")[: 1 + len(PRESETS)] for row in re.findall(r"^\| (`\w+` \|.*)", section, re.MULTILINE)]
        columns = [getattr(preset, table) for preset in PRESETS.values()]
        names = type(columns[0]).model_fields
        expected = [[f"`{name}`", *(_cell(getattr(column, name)) for column in columns)] for name in names]
        assert [row for row in rows if row[0] != "`baseline`"] == expected


def test_the_example_by_hand_is_right():
    page = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    picture = [row.split() for row in re.findall(r"(?:[\d.] ){9}[\d.]", page)]
    truth, pred = (np.array([[int(v.replace(".", "0")) for v in row] for row in picture[i::2]]) for i in (0, 1))
    cells = replace(Instances.from_labels(pred), scores=np.array([0.9, 0.8], np.float32))
    evaluator = Evaluator(["cell"])
    evaluator.add("strip", Instances.from_labels(truth), cells)
    result = evaluator.result()
    figures = {
        "F1": result.f1_50,
        "DSB-AP": result.thresholds[0].pooled.dsb_ap,
        "PQ": result.pq,
        "AJI": result.aji,
        "Dice": result.dice,
        "AP50": result.ap50,
        "AP75": result.ap75,
        "AP": result.map,
    }
    by_hand = dict(re.findall(r"\*\*([\w-]+)\*\* =(?: [^*]*?=)?\s\*\*([\d.]+)\*\*", page))
    assert {name: float(value) for name, value in by_hand.items()} == {k: round(v, 4) for k, v in figures.items()}
