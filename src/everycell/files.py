"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from everycell.errors import OutputError

_TEMPORARY = ".everycell-"
_ADVICE = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some space or choose another folder",
    errno.ENOENT: "create the folder first",
    errno.EISDIR: "a folder has this name: choose another name",
}


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same suffix) that becomes `path` when the block ends well.

    On any failure the temporary file is removed and an existing `path` is left as it was.

    Raises:
        OutputError: the file could not be written.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        with suppress(OSError):  # it may never have come into being, below a file for example
            temporary.unlink()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, still to be made, that becomes `path` when the block ends well.

    On any failure the temporary folder is removed with all that is in it, and an existing `path` is left as it was.

    Raises:
        OutputError: the folder could not be written.
    """
    temporary, old = _temporary(path), _temporary(path)
    try:
        yield temporary
        if path.is_dir():  # one that is not empty cannot be replaced in one step
            path.rename(old)
        temporary.rename(path)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder in `folder` that is removed with all that is in it when the block ends."""
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=folder) as name:
        yield Path(name)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}{path.suffix}")


def _output_error(path: Path, error: OSError) -> OutputError:
    advice = _ADVICE.get(error.errno or 0, "choose a folder that you may write to")
    return OutputError(f"cannot write {path}: {error.strerror or error}; {advice}")


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def make_folder(path: Path) -> None:
    """Make the folder `path` and those above it, if they are not there.

    Raises:
        OutputError: it cannot be made, or a file has its name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror or error}; choose another one") from error


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed while it wrote left behind; nobody else may be writing there."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
