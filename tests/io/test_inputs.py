from pathlib import Path

import pytest

from everycell.errors import DataError
from everycell.io import find_images


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(*inputs: str | Path) -> dict[str, str]:
    return {stem: path.name for stem, path in find_images(inputs)}


def test_a_folder_gives_its_images_sorted_without_masks_and_outputs(tmp_path: Path) -> None:
    touch(tmp_path, "b.PNG", "a.tif", "c.ome.tif", "a_masks.tif", "class1.tif", "a.labels.tif", "a.overlay.png")
    touch(tmp_path, "notes.txt", ".hidden.png", "deep/d.png")
    assert list(found(tmp_path).items()) == [("a", "a.tif"), ("b", "b.PNG"), ("c", "c.ome.tif")]


def test_cell_folders_go_by_their_folder_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "x/image.tif", "x/class1.tif", "y/image.tif", "empty/readme.md")
    expected = {"x": "image.tif", "y": "image.tif"}
    assert found(tmp_path) == expected
    assert found(str(tmp_path / "*")) == expected
    assert found(str(tmp_path / "*" / "image.tif")) == expected
    assert found(tmp_path / "x") == {"x": "image.tif"}
    assert found(tmp_path / "x" / "image.tif") == {"x": "image.tif"}
    monkeypatch.chdir(tmp_path / "x")
    assert found("image.tif") == {"x": "image.tif"}


def test_label_pairs_give_their_images(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "labels/a.tif")
    assert find_images([tmp_path]) == [("a", tmp_path / "images" / "a.png")]


def test_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a1.png", "a2.png", "b1.png", "a3.txt", "deep/a4.png")
    monkeypatch.chdir(tmp_path)
    assert list(found("a*.png")) == ["a1", "a2"]
    assert list(found("**/a*")) == ["a1", "a2", "a4"]
    assert list(found(str(tmp_path / "?1.png"))) == ["a1", "b1"]


def test_a_file_with_glob_signs_in_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].png")
    assert list(found(tmp_path / "a[1].png")) == ["a[1]"]


def test_equal_stems_become_distinct_and_a_file_named_twice_stays_one(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a.tif", "other/A.png", "a-2.png")
    stems = [stem for stem, _ in find_images([tmp_path, tmp_path / "a.png", tmp_path / "other"])]
    assert len({stem.casefold() for stem in stems}) == len(stems) == 4


@pytest.mark.parametrize(
    ("given", "said"), [("no.png", "no such file or folder"), ("*.png", "no images in"), ("", "no images in")]
)
def test_nothing_found_says_where(tmp_path: Path, given: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        find_images([f"{tmp_path}/{given}"])


def test_no_inputs() -> None:
    with pytest.raises(DataError, match="no inputs given"):
        find_images([])
