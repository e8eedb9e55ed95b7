import errno
from pathlib import Path

import pytest

from everycell.errors import OutputError
from everycell.files import atomic_folder, atomic_write, remove_leftovers, scratch_folder, write_bytes


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


def _fill(folder: Path, text: str) -> None:
    (folder / "c").mkdir(parents=True)
    (folder / "c" / "0").write_text(text)


def test_a_folder_replaces_another_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"
    for text in ("old", "new"):
        with atomic_folder(target) as temporary:
            _fill(temporary, text)
    assert (target / "c" / "0").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_folder_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"
    _fill(target, "old")
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as temporary:
        _fill_half_then_fail(temporary)
    assert (target / "c" / "0").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_to_rename_puts_the_old_folder_back(tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"
    _fill(target, "old")
    with pytest.raises(OutputError, match="create the folder first"), atomic_folder(target):
        pass  # nothing was written, so there is nothing to rename
    assert (target / "c" / "0").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_leftovers_of_a_killed_process_go(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.csv", b"whole")
    temporary = atomic_write(tmp_path / "b.csv").__enter__()
    temporary.write_bytes(b"half")
    _fill(atomic_folder(tmp_path / "b.zarr").__enter__(), "half")
    with scratch_folder(tmp_path) as folder:
        _fill(folder, "half")
        remove_leftovers(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
        folder.mkdir()


def _fill_half_then_fail(folder: Path) -> None:
    _fill(folder, "new")
    raise ZeroDivisionError


def _write_half_then_fail(path: Path) -> None:
    path.write_bytes(b"half")
    raise ZeroDivisionError
