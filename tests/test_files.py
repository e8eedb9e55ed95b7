import errno
from pathlib import Path

import pytest

from everycell.errors import OutputError
from everycell.files import atomic_write, write_bytes


def test_a_failure_inside_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "cells.csv"
    write_bytes(target, b"old")
    with pytest.raises(ZeroDivisionError), atomic_write(target) as temporary:
        _write_half_then_fail(temporary)
    assert [path.name for path in tmp_path.iterdir()] == ["cells.csv"]
    assert target.read_bytes() == b"old"


def test_success_replaces_the_file_and_the_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    target = tmp_path / "a.labels.tif"
    write_bytes(target, b"old")
    with atomic_write(target) as temporary:
        assert temporary.suffix == ".tif"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_an_output_error_that_names_the_file(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    with pytest.raises(OutputError, match=r"a\.json: No space left"), atomic_write(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def _write_half_then_fail(path: Path) -> None:
    path.write_bytes(b"half")
    raise ZeroDivisionError
