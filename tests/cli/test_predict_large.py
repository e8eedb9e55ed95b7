"""Images in several tiles: slides, areas, damage."""

import csv
import json

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from stub_model import grid
from test_predict import cannot_write, summary

from everycell.cli.outputs import output_paths
from everycell.cli.settings import FORMATS
from everycell.formats import open_cell_set

ALL = "labels,zarr,coco,geojson,geojson.gz,rois,table,anndata,overlay"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def tiles(model):
    """The stub, with tiles of 100 px: 60 px of core and 20 px around it."""
    model.tile_px = 100
    return model


@pytest.fixture
def slide(tmp_path):
    """240 by 300 px in pieces of 64 px with 180 cells of 36 px."""
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, grid(240, 300), tile=(64, 64), compression="zlib", photometric="rgb")
    return path


def damage(path, piece):
    """Spoil one piece of a compressed TIFF; gives what brings it back."""
    with tifffile.TiffFile(path) as tif:
        start, count = tif.pages[0].dataoffsets[piece], tif.pages[0].databytecounts[piece]
    good = path.read_bytes()
    path.write_bytes(good[:start] + b"\xff" * count + good[start + count :])
    return lambda: path.write_bytes(good)


def test_tiles_find_what_the_whole_image_holds(everycell, tiles, slide, out):
    code, said, err = everycell("predict", slide, "-o", out, "--formats", ALL)
    assert (code, err) == (0, "")
    assert said.startswith("180 cells in 1 of 1 images;")
    assert len(tiles.windows) == 20
    assert not (out / ".tiles").exists()
    labels = tifffile.imread(out / "slide.labels.tif")
    np.testing.assert_array_equal(labels > 0, grid(240, 300)[..., 0] > 0)
    table = pd.read_csv(out / "slide.cells.csv")
    assert table["cell"].tolist() == list(range(1, 181))
    assert set(table["area_px"]) == {36}
    middle = table[["centroid_y_px", "centroid_x_px"]].to_numpy().astype(int)
    assert labels[tuple(middle.T)].tolist() == table["cell"].tolist()
    # Tile by tile, row by row: cores of 60 px.
    owner = 5 * (middle[:, 0] // 60) + middle[:, 1] // 60
    assert owner.tolist() == sorted(owner)


def test_every_output_holds_every_cell(everycell, tiles, slide, out):
    everycell("predict", slide, "-o", out, "--formats", ALL)
    record = json.loads((out / "run.json").read_bytes())["images"][0]
    assert sorted(record["outputs"]) == sorted(p.name for p in out.iterdir() if p.name.startswith("slide"))
    labels = tifffile.imread(out / "slide.labels.tif")
    for name in ("labels.tif", "labels.zarr", "coco.json", "geojson", "geojson.gz", "rois.zip"):
        cells = open_cell_set(out / f"slide.{name}")
        np.testing.assert_array_equal(cells.read(cells.names[0], (240, 300)).to_labels(), labels)
    tables = [pd.read_csv(out / "slide.cells.csv"), pd.read_parquet(out / "slide.cells.parquet")]
    tables.append(anndata.read_h5ad(out / "slide.h5ad").obs)
    assert [table["cell"].tolist() for table in tables] == [list(range(1, 181))] * 3
    # 100 px around a cell far from the border lie 78 others, on a grid of 20 px (numbers of lattice points).
    assert tables[0].set_index("cell")["neighbors_100px"].max() == 80


def test_a_wide_image_becomes_pyramids(everycell, model, tmp_path, out):
    for stem in "ab":
        tifffile.imwrite(tmp_path / f"{stem}.tif", grid(30, 4100), photometric="rgb")
    code, _, err = everycell("predict", tmp_path / "a.tif", tmp_path / "b.tif", "-o", out)
    assert code == 0
    assert err == "everycell: note: µm/px unknown: sizes are in pixels alone; give --mpp (first in a.tif)\n"
    assert {path.name for path in out.glob("a.*")} == {
        path.name for path in output_paths(out, "a", FORMATS, (30, 4100))
    }
    for kind in ("labels", "overlay"):
        with tifffile.TiffFile(out / f"a.{kind}.tif") as tif:
            assert [level.shape[:2] for level in tif.series[0].levels][:2] == [(30, 4100), (15, 2050)]
    with tifffile.TiffFile(out / "a.overlay.tif") as tif:
        x, y = 3, 0  # on the outline of the first cell
        green = tif.asarray()[y, x].astype(int)
        assert green[1] > green[0] + 50


def areas(path, *geometries):
    features = [{"type": "Feature", "geometry": geometry, "properties": {}} for geometry in geometries]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def box(x0, y0, x1, y1):
    return {"type": "Polygon", "coordinates": [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]]}


class TestWithin:
    def test_only_cells_inside(self, everycell, tiles, slide, out, tmp_path):
        drawn = areas(tmp_path / "drawn.geojson", box(0, 0, 40, 60), box(200, 0, 240, 20))
        everycell("predict", slide, "-o", out, "--within", drawn, "--mpp", "0.5")
        row = summary(out)["slide"]
        # 2 x 3 cells and 2 x 1; 3200 px² of 0.25 µm² are 0.0008 mm².
        assert (row["n_cells"], row["area_mm2"], row["cells_per_mm2"]) == ("8", "0.0008", "10000.0")
        assert len(tiles.windows) < 20

    def test_a_folder_holds_the_areas_of_each_image(self, everycell, model, folder, out, tmp_path):
        (tmp_path / "drawn").mkdir()
        areas(tmp_path / "drawn" / "a.geojson", box(0, 0, 10, 80))
        areas(tmp_path / "drawn" / "b.geojson", box(0, 0, 30, 80))
        code, _, err = everycell("predict", folder, "-o", out, "--within", tmp_path / "drawn")
        assert code == 1
        assert err.count("\n") == 1
        assert f"no such file: {tmp_path / 'drawn' / 'c.geojson'}" in err
        assert {stem: (row["status"], row["n_cells"]) for stem, row in summary(out).items()} == {
            "a": ("ok", "1"),
            "b": ("ok", "3"),
            "c": ("failed", ""),
        }

    def test_areas_that_changed_are_predicted_again(self, everycell, model, folder, out, tmp_path):
        drawn = areas(tmp_path / "drawn.geojson", box(0, 0, 10, 80))
        for _ in range(2):
            everycell("predict", folder, "-o", out, "--within", drawn)
        assert len(model.seen) == 3
        areas(drawn, box(0, 0, 30, 80))
        everycell("predict", folder, "-o", out, "--within", drawn)
        assert len(model.seen) == 6
        assert summary(out)["b"]["n_cells"] == "3"

    def test_another_region_is_another_run(self, everycell, model, folder, out, tmp_path):
        everycell("predict", folder, "-o", out)
        drawn = areas(tmp_path / "drawn.geojson", box(0, 0, 10, 80))
        code, _, err = everycell("predict", folder, "-o", out, "--within", drawn)
        assert code == 1
        assert "other settings (within)" in err

    def test_outside_the_image(self, everycell, tiles, slide, out, tmp_path):
        drawn = areas(tmp_path / "drawn.geojson", box(300, 0, 900, 70))
        code, _, err = everycell("predict", slide, "-o", out, "--within", drawn)
        assert code == 1
        assert err.count("\n") == 1
        assert "no area lies inside the image of 300 × 240 px, they reach from x, y 300, 0 to 900, 70" in err


class TestDamage:
    def test_the_rest_of_the_image_is_written(self, everycell, tiles, slide, out):
        damage(slide, 7)  # x 128 … 191, y 64 … 127
        code, said, err = everycell("predict", slide, "-o", out)
        assert code == 1
        assert err.count("\n") == 1
        expected = (
            f"everycell: error: 9 of 20 tiles could not be read and have no cells: cannot decode {slide}, level 0"
        )
        assert err.startswith(expected)
        assert " 1 incomplete;" in said
        row = summary(out)["slide"]
        assert row["status"] == "incomplete"
        assert row["error"] in err
        assert 0 < int(row["n_cells"]) < 180
        labels = tifffile.imread(out / "slide.labels.tif")
        assert labels[:6, :6].all()
        assert not labels[64:128, 128:192].any()

    def test_the_next_run_tries_what_is_missing(self, everycell, tiles, slide, out):
        mend = damage(slide, 7)
        everycell("predict", slide, "-o", out)
        assert (out / ".tiles").is_dir()
        tiles.windows.clear()
        assert everycell("predict", slide, "-o", out)[0] == 1
        assert len(tiles.windows) == 9
        mend()
        tiles.windows.clear()
        assert everycell("predict", slide, "-o", out)[0] == 0
        assert len(tiles.windows) == 20  # of another file now
        assert summary(out)["slide"]["n_cells"] == "180"
        assert not (out / ".tiles").exists()

    def test_what_is_damaged_where_nobody_looked_is_black(self, everycell, tiles, slide, out, tmp_path):
        damage(slide, 19)  # the last one
        drawn = areas(tmp_path / "drawn.geojson", box(0, 0, 40, 40))
        code, _, err = everycell("predict", slide, "-o", out, "--within", drawn)
        assert code == 0
        assert "note: damaged places are black in overlay and intensities; the first: (" in err
        assert summary(out)["slide"]["n_cells"] == "4"

    def test_a_full_disk_keeps_the_finished_tiles(self, everycell, tiles, slide, out, monkeypatch):
        with monkeypatch.context() as patch:
            cannot_write(patch, "tile_13.npz")
            code, _, err = everycell("predict", slide, "-o", out)
        assert code == 1
        assert err.count("\n") == 1
        assert "No space left on device; free some space" in err
        tiles.windows.clear()
        assert everycell("predict", slide, "-o", out)[0] == 0
        assert (160, 100, 260, 200) in tiles.windows
        assert len(tiles.windows) < 12
        assert summary(out)["slide"]["n_cells"] == "180"


def test_a_zarr_is_kept_until_a_chunk_changes(everycell, tiles, tmp_path, out):
    array = zarr.create_array(tmp_path / "slide.zarr", shape=(240, 300, 3), chunks=(64, 64, 3), dtype="u1")
    array[:] = grid(240, 300)
    everycell("predict", tmp_path / "slide.zarr", "-o", out)
    _, said, _ = everycell("predict", tmp_path / "slide.zarr", "-o", out)
    assert said.startswith("180 cells in 1 of 1 images, 1 of them kept")
    array[:6, :6] = 0
    _, said, _ = everycell("predict", tmp_path / "slide.zarr", "-o", out)
    assert said.startswith("179 cells in 1 of 1 images;")


def test_several_slides_have_one_summary(everycell, tiles, slide, tmp_path, out):
    tifffile.imwrite(tmp_path / "more.tif", grid(240, 100), photometric="rgb")
    everycell("predict", slide, tmp_path / "more.tif", "-o", out)
    with (out / "summary.csv").open(newline="") as file:
        rows = [(row["image"], row["n_cells"]) for row in csv.DictReader(file)]
    assert rows == [("more", "60"), ("slide", "180")]


def test_anndata_that_is_not_installed_is_said_at_once(everycell, model, folder, out, monkeypatch):
    monkeypatch.setattr("everycell.cli.outputs.find_spec", lambda name: None)
    code, _, err = everycell("predict", folder, "-o", out, "--formats", "anndata")
    assert code == 1
    assert err == "everycell: error: --formats anndata needs one more package: pip install 'everycell[spatial]'\n"
    assert not model.seen


def test_a_scheduler_that_does_not_answer(everycell, model, folder, out, monkeypatch):
    pytest.importorskip("distributed", reason="dask is an extra")
    monkeypatch.setattr("everycell.predict.cluster._TIMEOUT_SECONDS", 0.2)
    code, _, err = everycell("predict", folder, "-o", out, "--scheduler", "tcp://127.0.0.1:1")
    assert code == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in err
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of dask's own sockets
def test_a_cluster_writes_the_same_files(everycell, tiles, slide, out, tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask is an extra")
    everycell("predict", slide, "-o", out)
    with distributed.LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=None) as cluster:
        code, _, _ = everycell("predict", slide, "-o", tmp_path / "far", "--scheduler", cluster.scheduler_address)
    assert code == 0
    for path in out.iterdir():
        if path.name != "run.json":
            assert (tmp_path / "far" / path.name).read_bytes() == path.read_bytes()
