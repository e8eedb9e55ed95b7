from pathlib import Path

from everycell.cli.one_image import OneImage


def test_a_mirax_slide_changes_with_the_folder_beside_it(tmp_path):
    path, data = tmp_path / "s.mrxs", tmp_path / "s" / "Data0000.dat"
    path.write_bytes(b"preview")
    data.parent.mkdir()
    data.write_bytes(b"pixels")
    before = OneImage.of("s", path, 1, None)
    data.write_bytes(b"more pixels")
    after = OneImage.of("s", path, 1, None)
    assert (before.state[0], after.state[0]) == (7 + 6, 7 + 11)
    assert before.key() != after.key()
    assert before.work_folder(Path("t")) != after.work_folder(Path("t"))


def test_finished_tiles_outlive_another_image_id_and_other_areas(tmp_path):
    path, drawn = tmp_path / "s.tif", tmp_path / "drawn.geojson"
    path.write_bytes(b"pixels")
    drawn.write_text("{}")
    first, second = OneImage.of("s", path, 1, None), OneImage.of("s", path, 2, drawn)
    assert first.key() != second.key()
    assert first.work_folder(Path("t")) == second.work_folder(Path("t"))
