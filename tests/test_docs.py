"""What the documentation says is so: commands, names, tables and figures."""

import ast
import re
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import everycell
from everycell.cli import main
from everycell.evaluate import EvaluationResult, Evaluator
from everycell.metrics import compare_paired, mean_terms
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


def _figures(text):
    """What a page says by hand: bold names with bold values behind them."""
    text = " ".join(text.split())
    found = re.findall(r"\*\*([\w -]+(?:\+)?)\*\* =(?: [^*]*?=)?\s\*\*(-?[\d.]+)\*\*", text)
    return {name: float(value) for name, value in found}


def _measures_page():
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    example, rest = page.split("## Averaging rules of PQ")
    return example, *rest.split("## Intervals and p-values")


def test_the_example_by_hand_is_right():
    page, _, _ = _measures_page()
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
        "AJI+": result.aji_plus,
        "Dice": result.dice,
        "AP50": result.ap50,
        "AP75": result.ap75,
        "AP": result.map,
        "AR": result.ar,
        "F_d": result.centroids.f_d,
        "boundary F1": result.boundary.f1,
        "Hausdorff": result.boundary.hausdorff.px,
        "Hausdorff 95": result.boundary.hausdorff95.px,
        "count bias": result.count.bias,
        "relative count error": result.count.relative,
        "Best threshold": result.best_threshold.score_thresh,
        "best F1": result.best_threshold.f1,
        "ECE": result.calibration.ece,
    }
    assert _figures(page) == {name: pytest.approx(value, abs=5e-5) for name, value in figures.items()}
    assert result.per_class["cell"].f_c == result.centroids.f_d


def test_the_averaging_rules_by_hand_are_right():
    _, page, _ = _measures_page()
    a, b = (np.array([[value, 0, 0]]) for value in (1, 2))
    none = np.zeros((1, 3), int)
    evaluator = Evaluator(["A", "B"])
    for name, truth, pred in (
        ("1", np.hstack([a, none]), np.hstack([a, b])),
        ("2", np.hstack([a, b]), np.hstack([none, b])),
    ):
        cells = [replace(Instances.from_labels(labels), class_ids=labels[labels > 0]) for labels in (truth, pred)]
        evaluator.add(name, *cells)
    averages = evaluator.result().panoptic
    assert _figures(page) == {
        name: pytest.approx(getattr(averages, name), abs=5e-5)
        for name in ("bpq", "mpq", "mpq_monusac", "mpq_monusac_corrected", "mpq_plus")
    }


def test_the_p_value_by_hand_is_right():
    _, _, page = _measures_page()
    first = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    found = compare_paired(mean_terms(first), mean_terms(first + 0.1), rng=np.random.default_rng(0))
    assert _figures(page) == {"p": found.p_value}


def test_the_keys_of_an_evaluation_are_those_of_the_table():
    page = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    table = page.split("## What is printed")[1].split("## Conventions")[0]
    named = [key for row in re.findall(r"^\| (`[^|]*)\|", table, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(field.name for field in fields(EvaluationResult))
