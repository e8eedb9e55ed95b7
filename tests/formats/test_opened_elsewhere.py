"""One output of each kind, opened by a library that is not ours: the same cells, pixel by pixel."""

import gzip
import json

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow.parquet
import pytest
import roifile
import shapely
import skimage.io
import tifffile
import zarr
from pycocotools import mask as coco
from skimage.draw import polygon2mask

from everycell.formats import (
    AnnDataWriter,
    CocoWriter,
    GeoJsonWriter,
    ImagejRoiWriter,
    LabelImageWriter,
    LabelZarrWriter,
    TableWriter,
    measure,
)
from everycell.plot import OverlayPyramidWriter
from everycell.structures import Instances, MaskCrops
from everycell.structures.colors import class_color

SIZE, MPP = (40, 60), 0.5


def shapes():
    """A disc, a ring, a ring in a ring, two parts, parts that touch at a corner, one pixel, and one over the first."""
    y, x = np.mgrid[-9:10, -9:10]
    distance = np.hypot(y, x)
    parts = np.zeros((6, 9), bool)
    parts[1:5, :3], parts[:, 6:] = True, True
    return {
        (2, 1): distance <= 8,
        (22, 0): (distance <= 9) & (distance > 4),
        (40, 20): ((distance <= 9) & (distance > 6)) | (distance <= 3),
        (45, 3): parts,
        (3, 25): np.kron(np.eye(4, dtype=bool), np.ones((3, 2), bool)),
        (59, 39): np.ones((1, 1), bool),
        (8, 6): np.ones((11, 12), bool),
    }


def cells(size=SIZE, crops=None):
    crops = shapes() if crops is None else crops
    n = len(crops)
    return Instances.from_masks(
        MaskCrops.from_crops(np.array(list(crops)), list(crops.values())),
        size,
        scores=np.linspace(0.5, 1, n, dtype=np.float32),
        class_ids=np.arange(n) % 2 + 1,
        mpp=MPP,
        class_names=("stroma", "tumour"),
    )


def many():
    """More cells than uint16 can number, on more than 4096 px; most have no pixel, and the last 20 lie in a row."""
    crops = [np.zeros((0, 0), bool)] * 65_530 + [np.ones((20, 90), bool)] * 20
    origins = np.zeros((len(crops), 2), int)
    origins[-20:] = np.stack([np.arange(20) * 250, np.full(20, 3)], axis=1)
    return Instances.from_masks(MaskCrops.from_crops(origins, crops), (40, 5000), mpp=MPP)


def write(writer, found, table=None):
    with writer:
        writer.write(found, table)


def table():
    return measure(cells(), np.full((*SIZE, 3), 200, np.uint8), image="a")


def masks(found):
    """Each cell on the whole image, bool [N, H, W]."""
    full = np.zeros((len(found), *found.image_size), bool)
    for mask, (rows, columns, bits) in zip(full, found.masks, strict=True):
        mask[rows, columns] = bits
    return full


def inside(outline):
    """Pixels whose centre lies in a shapely geometry."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return shapely.contains_xy(outline, x, y)


def test_label_image(tmp_path):
    write(LabelImageWriter(tmp_path / "a.labels.tif", SIZE, MPP), cells())
    expected = cells().to_labels()
    assert expected[10, 12] == 7  # the last cell, of the highest score, lies over the first
    for labels in (skimage.io.imread(tmp_path / "a.labels.tif"), PIL.Image.open(tmp_path / "a.labels.tif")):
        np.testing.assert_array_equal(labels, expected)


def test_more_cells_than_uint16_can_number(tmp_path):
    found = many()
    expected = found.to_labels()
    assert len(np.unique(expected)) == 21
    assert expected.max() == 65_550
    write(LabelImageWriter(tmp_path / "a.labels.tif", found.image_size, MPP), found)
    write(LabelZarrWriter(tmp_path / "a.labels.zarr", found.image_size, MPP), found)
    with tifffile.TiffFile(tmp_path / "a.labels.tif") as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels]
    group = zarr.open_group(tmp_path / "a.labels.zarr", mode="r")
    paths = [dataset["path"] for dataset in group.attrs["ome"]["multiscales"][0]["datasets"]]
    for k, (from_tiff, path) in enumerate(zip(levels, paths, strict=True)):
        assert from_tiff.dtype == group[path].dtype == np.uint32
        np.testing.assert_array_equal(from_tiff, expected[:: 2**k, :: 2**k])
        np.testing.assert_array_equal(group[path], from_tiff)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own decoder
def test_coco(tmp_path):
    write(CocoWriter(tmp_path / "a.coco.json", image_id=3), cells())
    entries = json.loads((tmp_path / "a.coco.json").read_text())
    codes = [entry["segmentation"] for entry in entries]
    np.testing.assert_array_equal([coco.decode(code) for code in codes], masks(cells()))
    boxes = cells().boxes
    np.testing.assert_array_equal(
        [entry["bbox"] for entry in entries], np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]
    )
    np.testing.assert_array_equal(coco.area(codes), cells().masks.areas())
    assert [entry["category_id"] for entry in entries] == cells().class_ids.tolist()
    np.testing.assert_array_equal(np.float32([entry["score"] for entry in entries]), cells().scores)


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_geojson(tmp_path, name):
    write(GeoJsonWriter(tmp_path / name), cells(), table())
    data = (tmp_path / name).read_bytes()
    content = json.loads(gzip.decompress(data) if name.endswith(".gz") else data)
    assert content["type"] == "FeatureCollection"
    assert [feature["properties"]["name"] for feature in content["features"]] == list("1234567")
    for feature, mask, class_id in zip(content["features"], masks(cells()), cells().class_ids.tolist(), strict=True):
        outline = shapely.geometry.shape(feature["geometry"])
        assert outline.is_valid
        assert outline.area == mask.sum()
        np.testing.assert_array_equal(inside(outline), mask)
        assert feature["type"] == "Feature"
        assert feature["properties"]["objectType"] == "detection"
        classification = {"name": ["stroma", "tumour"][class_id - 1], "color": list(class_color(class_id))}
        assert feature["properties"]["classification"] == classification
        assert feature["properties"]["measurements"]["Area µm^2"] == mask.sum() * MPP**2
    kinds = [shapely.geometry.shape(feature["geometry"]).geom_type for feature in content["features"]]
    assert kinds == ["Polygon"] * 2 + ["MultiPolygon"] * 3 + ["Polygon"] * 2


def test_imagej_rois(tmp_path):
    write(ImagejRoiWriter(tmp_path / "a.rois.zip"), cells())
    rois = roifile.roiread(tmp_path / "a.rois.zip")
    assert [roi.name for roi in rois] == list("1234567")
    for roi, mask in zip(rois, masks(cells()), strict=True):
        drawn = np.zeros(SIZE, bool)
        for ring in roi.coordinates(multi=True):
            drawn ^= polygon2mask(SIZE, ring[:, ::-1] - 0.5)  # whose pixel centres are whole numbers
        np.testing.assert_array_equal(drawn, mask)


def test_tables(tmp_path):
    for name in ("a.cells.csv", "a.cells.parquet"):
        write(TableWriter(tmp_path / name, SIZE, MPP), cells(), table())
    from_csv = pd.read_csv(tmp_path / "a.cells.csv")
    from_parquet = pyarrow.parquet.read_table(tmp_path / "a.cells.parquet").to_pandas()
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for found in (from_csv, from_parquet):
        assert found["cell"].tolist() == [1, 2, 3, 4, 5, 6, 7]
        assert found["class"].tolist() == ["stroma", "tumour"] * 3 + ["stroma"]
        np.testing.assert_allclose(found["area_um2"], masks(cells()).sum(axis=(1, 2)) * MPP**2)
        np.testing.assert_allclose(found["centroid_x_px"], [x[mask].mean() for mask in masks(cells())], rtol=1e-7)
        np.testing.assert_allclose(found["centroid_y_px"], [y[mask].mean() for mask in masks(cells())], rtol=1e-7)
        np.testing.assert_array_equal(found["mean_green"], 200)


def test_anndata(tmp_path):
    anndata = pytest.importorskip("anndata")
    write(AnnDataWriter(tmp_path / "a.h5ad", SIZE, MPP), cells(), table())
    data = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert data.obs["cell"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    outlines = [shapely.union_all(shapely.box(x, y, x + 1, y + 1)) for y, x in map(np.nonzero, masks(cells()))]
    np.testing.assert_allclose(data.obsm["spatial"], [(o.centroid.x, o.centroid.y) for o in outlines])


def test_overlay(tmp_path):
    class Source:
        def read(self, window):
            x0, y0, x1, y1 = window
            return np.full((y1 - y0, x1 - x0, 3), 200, np.uint8)

    write(OverlayPyramidWriter(tmp_path / "a.overlay.tif", Source(), SIZE, MPP), cells())
    picture = PIL.Image.open(tmp_path / "a.overlay.tif").convert("RGB")
    assert picture.size == SIZE[::-1]
    lone, background = picture.getpixel((59, 39)), picture.getpixel((30, 35))  # the cell of one pixel; no cell
    assert np.abs(np.subtract(lone, class_color(2))).max() < 60  # JPEG
    assert np.abs(np.subtract(background, 200)).max() < 10
