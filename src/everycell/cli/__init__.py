"""The `everycell` command: one file per command, each imported only when it is called."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import App, CycloptsError, CycloptsPanel, UnknownCommandError

from everycell import __version__
from everycell.errors import EverycellError

__all__ = ["main"]

# Command → what it does; `predict` lives in everycell.cli.predict, function predict, and so on.
_COMMANDS = {
    "demo": "Find the cells of a real tissue image that is already on this computer.",
    "predict": "Find and outline every cell in images, folders of images or globs.",
    "convert": "Write cells in another format, the leaderboard's among them.",
    "validate": "Check a leaderboard file against its id map.",
    "figure": "Draw an image, its masks and their outlines side by side.",
    "evaluate": "Compare predicted cells with the truth.",
    "train": "Train a model on a folder of images with outlined cells.",
    "report": "Write a training run's report as one HTML page.",
    "ablate": "Train the report's eight configurations alike and compare them.",
    "anchors": "Measure how well anchors fit the cells of a data set, and suggest sizes.",
    "export": "Write a model as one graph for ONNX Runtime, OpenVINO or TorchScript.",
    "models": "List the models that come with everycell.",
    "doctor": "Check that everything everycell needs works on this computer.",
}


def _usage_error(error: CycloptsError) -> object:
    """What is shown for wrong usage; the library's own text on an unknown command would import every command."""
    if isinstance(error, UnknownCommandError) and error.unused_tokens:
        return f"everycell: error: unknown command {error.unused_tokens[0]!r}; commands are {', '.join(_COMMANDS)}"
    return CycloptsPanel(error)


_app = App(
    name="everycell",
    help="Find and outline every cell in a microscope image.",
    version=__version__,
    help_format="plaintext",
    error_formatter=_usage_error,
    suppress_keyboard_interrupt=False,
)
for _name, _help in _COMMANDS.items():
    _app.command(f"everycell.cli.{_name}:{_name}", name=_name, help=_help, sort_key=list(_COMMANDS).index(_name))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; ends with exit code 0, 1 (it failed), 2 (wrong usage) or 130 (interrupted).

    Args:
        arguments: what follows `everycell`; those of the process when None.
    """
    try:
        code = _app(arguments, result_action="return_value")
    except EverycellError as error:
        print(f"everycell: error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("everycell: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)
