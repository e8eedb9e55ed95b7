import numpy as np
import PIL.Image
import pytest
import tifffile

from everycell import plot


@pytest.fixture
def out(everycell, model, folder, tmp_path):
    everycell("predict", folder, "-o", tmp_path / "out", "--mpp", "0.5")
    return tmp_path / "out"


@pytest.fixture
def drawn(monkeypatch):
    """What `plot_panels` was given: (pixels, cells, options) of each call."""
    calls, draw = [], plot.plot_panels

    def note(pixels, cells, **options):
        calls.append((pixels, cells, options))
        return draw(pixels, cells, **options)

    monkeypatch.setattr(plot, "plot_panels", note)
    return calls


@pytest.fixture
def cell_folder(folder, tmp_path):
    """The cells of a.png as a cell folder: one of class 1, two of class 3."""
    sample = tmp_path / "data" / "a"
    sample.mkdir(parents=True)
    pixels = np.asarray(PIL.Image.open(folder / "a.png"))
    tifffile.imwrite(sample / "image.tif", pixels, photometric="rgb")
    one, three = np.zeros((2, 80, 100), np.uint16)
    one[20:24, 10:26] = 5
    three[5:11, 2:8], three[5:11, 12:18] = 1, 2
    tifffile.imwrite(sample / "class1.tif", one)
    tifffile.imwrite(sample / "class3.tif", three)
    return sample


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("a.labels.tif", [1, 1, 1]),
        ("a.coco.json", [1, 1, 2]),
        ("a.geojson", [1, 1, 2]),
        ("c.coco.json", []),
        ("c.geojson", []),
    ],
)
def test_every_output_of_a_prediction(everycell, folder, out, tmp_path, drawn, name, classes):
    image = folder / f"{name[0]}.png"
    code, _, err = everycell("figure", image, "--pred", out / name, "-o", tmp_path / "figure.png")
    assert (code, err) == (0, "")
    [(_, cells, options)] = drawn
    assert sorted(cells.class_ids.tolist()) == classes
    assert options == {"truth": None, "by": "class", "title": name[0]}
    assert cells.mpp == 0.5  # said by the summary.csv beside the file
    if "labels" not in name:
        assert cells.class_names == ("round", "long")
    with PIL.Image.open(tmp_path / "figure.png") as picture:
        assert picture.width > 2 * picture.height  # three panels of 100 by 80 px in a row


def test_truth_colours_and_scale(everycell, folder, out, cell_folder, tmp_path, drawn):
    options = ("--truth", cell_folder, "--color", "instance", "--mpp", "0.25", "-o", tmp_path / "figure.png")
    code, _, err = everycell("figure", folder / "a.png", "--pred", out / "a.geojson", *options)
    assert (code, err) == (0, "")
    [(_, cells, given)] = drawn
    assert (given["by"], cells.mpp, given["truth"].mpp) == ("instance", 0.25, 0.25)
    assert given["truth"].class_ids.tolist() == [1, 3, 3]
    assert given["truth"].class_names == ("class1", "class2", "class3")


def test_a_cell_folder_alone_has_its_own_name(everycell, cell_folder, tmp_path, drawn):
    code, _, err = everycell("figure", cell_folder, "--pred", cell_folder, "-o", tmp_path / "figure.png")
    assert (code, err) == (0, "")
    [(_, cells, options)] = drawn
    assert options["title"] == "a"
    assert cells.masks.areas().tolist() == [64, 36, 36]


def test_cells_of_another_image_size(everycell, folder, cell_folder, tmp_path):
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((10, 20), np.uint16))
    PIL.Image.new("RGB", (20, 10)).save(tmp_path / "small.png")
    for image, pred, sizes in (
        (folder / "a.png", tmp_path / "small.tif", "(10, 20), but the image has (80, 100)"),
        (tmp_path / "small.png", cell_folder / "class1.tif", "(80, 100), but the image has (10, 20)"),
    ):
        code, _, err = everycell("figure", image, "--pred", pred, "-o", tmp_path / "f.png")
        assert code == 1
        assert f"{pred} is for an image of (height, width) {sizes}" in err
        assert not (tmp_path / "f.png").exists()


def test_a_folder_without_cells_and_several_images(everycell, folder, out, tmp_path):
    code, _, err = everycell("figure", folder / "a.png", "--pred", folder, "-o", tmp_path / "f.png")
    assert code == 1
    assert "is it a photo?" in err
    code, _, err = everycell("figure", folder, "--pred", out / "a.geojson", "-o", tmp_path / "f.png")
    assert (code, err) == (1, f"everycell: error: expected one image, got 3 in {folder}; name one of them\n")


@pytest.mark.parametrize("content", ["", "{}", '[{"image_id": 1}, {"image_id": 2}]', '[{"image_id": []}]', "[7]"])
def test_coco_results_that_do_not_fit(everycell, folder, tmp_path, content):
    (tmp_path / "bad.json").write_text(content)
    code, _, err = everycell("figure", folder / "a.png", "--pred", tmp_path / "bad.json", "-o", tmp_path / "f.png")
    assert code == 1
    assert err.startswith("everycell: error: ")
    assert str(tmp_path / "bad.json") in err


@pytest.mark.parametrize("wrong", [["--color", "score"], ["--mpp", "0"], ["--mpp", "-1"]])
def test_wrong_usage(everycell, folder, out, tmp_path, wrong):
    code, _, _ = everycell(
        "figure", folder / "a.png", "--pred", out / "a.geojson", "-o", tmp_path / "figure.png", *wrong
    )
    assert code == 2


def test_the_picture_is_a_png(everycell, folder, out, tmp_path):
    code, _, err = everycell("figure", folder / "a.png", "--pred", out / "a.geojson", "-o", tmp_path / "figure.pdf")
    assert code == 2
    assert "must have extension" in err
