import numpy as np
import PIL.Image
import pytest
import tifffile


@pytest.fixture
def out(everycell, model, folder, tmp_path):
    everycell("predict", folder, "-o", tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["a.labels.tif", "a.coco.json", "a.geojson", "c.coco.json"])
def test_panels_of_every_format(everycell, folder, out, tmp_path, name):
    code, _, err = everycell("figure", folder / "a.png", "--pred", out / name, "-o", tmp_path / "figure.png")
    assert (code, err) == (0, "")
    with PIL.Image.open(tmp_path / "figure.png") as picture:
        assert picture.width > 2 * picture.height  # three panels of 100 by 80 px in a row


def test_cells_of_another_image_size(everycell, folder, tmp_path):
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((10, 20), np.uint16))
    code, _, err = everycell("figure", folder / "a.png", "--pred", tmp_path / "small.tif", "-o", tmp_path / "f.png")
    assert code == 1
    assert "small.tif is for an image of (height, width) (10, 20), but" in err
    assert not (tmp_path / "f.png").exists()


@pytest.mark.parametrize("content", ["", "{}", '[{"image_id": 1}, {"image_id": 2}]', '[{"image_id": []}]', "[7]"])
def test_coco_results_that_do_not_fit(everycell, folder, tmp_path, content):
    (tmp_path / "bad.json").write_text(content)
    code, _, err = everycell("figure", folder / "a.png", "--pred", tmp_path / "bad.json", "-o", tmp_path / "f.png")
    assert code == 1
    assert err.startswith("everycell: error: ")
    assert str(tmp_path / "bad.json") in err


def test_the_picture_is_a_png(everycell, folder, out, tmp_path):
    code, _, err = everycell("figure", folder / "a.png", "--pred", out / "a.geojson", "-o", tmp_path / "figure.pdf")
    assert code == 2
    assert "must have extension" in err
