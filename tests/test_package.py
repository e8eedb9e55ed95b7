"""Facts about the package as a whole: what it offers, what it loads, what its texts say."""

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import everycell

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "everycell"
ROOMS = [module.name for module in pkgutil.iter_modules([str(SOURCE)]) if module.ispkg]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "Makefile",
    ROOT / "pyproject.toml",
    *sorted(path for folder in ("src", "docs", "benchmarks", ".ci") for path in (ROOT / folder).rglob("*")),
]


def _exported(room):
    """Names that a room's `__init__.py` re-exports as themselves, or defines without an underscore."""
    names = []
    for node in ast.parse((SOURCE / room / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.name for alias in node.names if alias.asname == alias.name]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            names.append(node.name)
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_all_is_what_the_room_exports(room):
    names = import_module(f"everycell.{room}").__all__
    assert sorted(names) == sorted(_exported(room))


@pytest.mark.parametrize("room", ROOMS)
def test_public_functions_and_classes_are_documented(room):
    module = import_module(f"everycell.{room}")
    public = [(name, getattr(module, name)) for name in module.__all__]
    documented = [(name, thing) for name, thing in public if inspect.isclass(thing) or inspect.isfunction(thing)]
    # A data class without a docstring gets its signature for one.
    assert not [name for name, thing in documented if not thing.__doc__ or thing.__doc__.startswith(f"{name}(")]


def test_the_package_offers_its_names_and_no_others():
    assert everycell.__all__ == sorted(everycell.__all__)
    assert [getattr(everycell, name).__name__ for name in everycell.__all__] == everycell.__all__
    with pytest.raises(AttributeError, match="it has EverycellError, Image"):
        _ = everycell.load


def test_import_loads_nothing_heavy():
    code = "import sys, everycell; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "matplotlib", "pydantic", "skimage", "scipy"} & set(run.stdout.split())


def test_version_is_the_projects():
    assert everycell.__version__ == PROJECT["version"]


def test_constraints_are_exact_and_fit_every_requirement():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==\d[\w.]*", "==".join(pin)) for pin in pins)
    assert pins == sorted(pins, key=lambda pin: pin[0].lower())
    versions = {canonicalize_name(name): version for name, version in pins}
    wanted = [
        *PROJECT["dependencies"],
        *(text for extra in PROJECT["optional-dependencies"].values() for text in extra),
    ]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_texts_leave_nothing_open_and_name_no_machine():
    # In two pieces, so that a search for these words does not end here.
    forbidden = re.compile("TO" "DO|FIX" "ME|" r"(?<![\w.])/(?:work|root|tmp|home|Users)/|\.\./shared|pypi\.org/simple")
    suffixes = {".py", ".md", ".toml", ".yml", ".txt", ""}
    texts = [path for path in TEXTS if path.is_file() and path.suffix in suffixes]
    found = [f"{path}: {hit[0]}" for path in texts for hit in forbidden.finditer(path.read_text(encoding="utf-8"))]
    assert not found
    assert len(texts) > 50
