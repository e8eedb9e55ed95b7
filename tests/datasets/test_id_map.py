import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everycell.datasets import ImageId, id_map_faults, read_id_map
from everycell.errors import DataError

ENTRY = {"file_name": "a.tif", "id": 1, "height": 446, "width": 512}


def test_entries_by_stem(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    path.write_text(json.dumps([ENTRY, ENTRY | {"file_name": "b.ome.tif", "id": 7}]))
    assert read_id_map(path) == {"a": ImageId("a.tif", 1, 446, 512), "b": ImageId("b.ome.tif", 7, 446, 512)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"images": []}, "must be a list"),
        ([3], "entry 1: expected an object"),
        ([ENTRY, {"id": 2, "width": 3}], "entry 2: expected an object .*; it lacks file_name, height"),
        ([ENTRY | {"file_name": 3}], "entry 1: 'file_name' must be a string, got 3"),
        ([ENTRY | {"id": "1"}], "entry 1: 'id' must be a whole number, got '1'"),
        ([ENTRY | {"height": 0}], "entry 1: 'height' must be a whole number above 0, got 0"),
        ([ENTRY | {"width": True}], "entry 1: 'width' must be"),
        ([ENTRY, ENTRY | {"id": 2, "file_name": "a.png"}], "entry 2: the stem 'a' occurs twice"),
        ([ENTRY, ENTRY | {"file_name": "b.png"}], "entry 2: id 1 belongs to 'a' already"),
    ],
)
def test_faults_name_the_entry(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "ids.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"ids\.json.*{said}"):
        read_id_map(path)


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot open id map"):
        read_id_map(tmp_path / "ids.json")
    (tmp_path / "ids.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        read_id_map(tmp_path / "ids.json")


def test_images_on_disk_that_differ_are_named(tmp_path: Path) -> None:
    files = {stem: tmp_path / f"{stem}.npy" for stem in "abx"}
    for path in files.values():
        np.save(path, np.zeros((4, 6), np.uint8))
    id_map = {"a": ImageId("a.npy", 1, 4, 6), "b": ImageId("b.npy", 2, 6, 4), "c": ImageId("c.npy", 3, 4, 6)}
    assert id_map_faults({"a": id_map["a"]}, {"a": files["a"]}) == {}
    assert id_map_faults(id_map, files) == {
        "entry without image file": ["c.npy"],
        "image file without entry": [str(files["x"])],
        "wrong image size": [
            f"{files['b']} is 4 × 6 px, but the id map says 6 × 4 (height × width); is it another image?"
        ],
    }
