"""Run by a test: the same command, killed at its first file, at its third and so on until it ends by itself."""

import os
import signal
import sys
from pathlib import Path

from stub_model import StubModel

# What is loaded here is not loaded in each of the many processes.
import everycell.cli.batch
import everycell.cli.leaderboard
import everycell.cli.predict
from everycell.cli import main

_STUB = StubModel(tile_px=100)


def _predict(arguments: list[str], life: float) -> int:
    """The signal or exit code of a process that dies when file number `life` is about to get its name."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    left, rename = life, Path.replace

    def replace(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    Path.replace = Path.rename = replace
    everycell.cli.batch.load_model = _STUB.load
    try:
        main(["predict", *arguments])
    except SystemExit as end:
        os._exit(end.code or 0)
    finally:
        os._exit(70)


def _until_it_ends(arguments: list[str]) -> None:
    """Lives that grow by two files each: wherever a run is killed, a later one gets further."""
    n_killed, code = 0, -signal.SIGKILL
    while (code := _predict(arguments, 2 * n_killed + 1)) == -signal.SIGKILL:
        n_killed += 1
    sys.stdout.write(f"{n_killed} {code}\n")


if __name__ == "__main__":
    _, whole, killed, *rest = sys.argv
    _predict([*rest, "-o", whole], float("inf"))
    _until_it_ends([*rest, "-o", killed])
