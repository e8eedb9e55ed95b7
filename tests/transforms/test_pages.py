"""The pages on augmentation say what the code does."""

import inspect
import re
from functools import partial
from pathlib import Path

import pytest

from everycell.train import PRESETS
from everycell.transforms import get_recipe
from everycell.transforms.recipes import Recipe

PAGES = Path(__file__).parents[2] / "docs" / "augmentation"
STEM_OF = {"equalise": "histogram-equalisation", "restain": "restaining"}


def recipe_of(column: str) -> Recipe:
    """The recipe that a column of a table names: `report`, or `+stain` for an option."""
    name = column.strip(" `")
    return get_recipe(f"none{name}" if name.startswith("+") else name)


def steps_of(recipe: Recipe) -> dict[str, dict[str, float]]:
    """Stem of the page → p and parameters."""
    found = {"flips-and-turns": {"p": 1.0}} if recipe.turns else {}
    for p, step in recipe.steps:
        function, given = (step.func, step.keywords) if isinstance(step, partial) else (step, {})
        defaults = inspect.signature(function).parameters.values()
        values = {d.name: d.default for d in defaults if d.kind is d.KEYWORD_ONLY} | given
        found[STEM_OF.get(function.__name__, function.__name__.replace("_", "-"))] = {"p": p} | values
    return found


def table(text: str, start: str) -> list[list[str]]:
    """Cells of the table whose header starts with `start`, without the line under the header."""
    lines = text[text.index(start) :].split("\n\n", maxsplit=1)[0].strip().splitlines()
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [header, *rows]


@pytest.mark.parametrize("stem", sorted(page.stem for page in PAGES.glob("*.md") if page.stem not in ("index", "zoom")))
def test_a_page_lists_the_parameters_of_the_code(stem):
    header, *rows = table((PAGES / f"{stem}.md").read_text(encoding="utf-8"), "| | `")
    for column, name in enumerate(header[1:], start=1):
        shown = {row[0].strip("`"): float(row[column]) for row in rows}
        assert shown == steps_of(recipe_of(name))[stem]


def test_the_overview_lists_every_step_in_order():
    header, *rows = table((PAGES / "index.md").read_text(encoding="utf-8"), "| augmentation |")
    stems = [re.search(r"\((.*)\.md\)", row[0])[1] for row in rows]
    for column, name in enumerate(header[1:-1], start=1):
        shown = {stem: float(row[column]) for stem, row in zip(stems, rows, strict=True) if row[column] != "–"}
        expected = {stem: values["p"] for stem, values in steps_of(recipe_of(name)).items()}
        assert list(shown.items()) == list(expected.items())
    options = {stem: row[-1].split() for stem, row in zip(stems, rows, strict=True) if row[-1] != "–"}
    assert len(options) == 3
    for stem, (option, p) in options.items():
        assert steps_of(recipe_of(option))[stem]["p"] == float(p)


def test_the_zoom_of_each_preset():
    header, row = table((PAGES / "zoom.md").read_text(encoding="utf-8"), "| preset |")
    for name, shown in zip(header[1:], row[1:], strict=True):
        assert shown == ", ".join(f"{x:g}" for x in PRESETS[name.strip("`")].train.scale_jitter)


def test_every_picture_is_small_and_shown():
    pictures = sorted((PAGES.parent / "images" / "augmentation").glob("*.png"))
    shown = {
        name
        for page in PAGES.glob("*.md")
        for name in re.findall(r"augmentation/([\w-]+\.png)", page.read_text("utf-8"))
    }
    assert {picture.name for picture in pictures} == shown
    assert sum(picture.stat().st_size for picture in pictures) < 1_500_000
