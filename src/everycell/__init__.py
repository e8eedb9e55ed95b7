"""everycell finds and outlines every cell in a microscope image."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Name → module that holds it; loaded on first use, so that importing everycell costs nothing.
_LAZY = {
    "EverycellError": "everycell.errors",
    "Image": "everycell.structures",
    "Instances": "everycell.structures",
    "load_model": "everycell.predict",
    "read_image": "everycell.io",
}

__all__ = ["EverycellError", "Image", "Instances", "load_model", "read_image"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'everycell' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
