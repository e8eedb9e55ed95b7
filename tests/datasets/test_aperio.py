from pathlib import Path

import numpy as np
import pytest
import tifffile

from everycell.datasets import AperioDataset, is_dataset, open_dataset
from everycell.errors import DataError
from everycell.formats import open_cell_set
from everycell.io import find_images

SIZE = (12, 20)


def layer(name: str, *boxes: tuple[int, int, int, int]) -> str:
    """One layer of rectangles (x0, y0, x1, y1)."""
    regions = "".join(
        f'<Region Id="{i}" Type="0"><Vertices>'
        + "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1)))
        + "</Vertices></Region>"
        for i, (x0, y0, x1, y1) in enumerate(boxes, start=1)
    )
    attribute = f'<Attributes><Attribute Name="{name}"/></Attributes>' if name else ""
    return f'<Annotation Id="1" Name="">{attribute}<Regions>{regions}</Regions></Annotation>'


def write(image: Path, outlines: Path, *layers: str, mpp: str = "0.25") -> None:
    for path in (image, outlines):
        path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(image, np.full((*SIZE, 3), 9, np.uint8), photometric="rgb")
    outlines.write_text(f'<Annotations MicronsPerPixel="{mpp}">{"".join(layers)}</Annotations>')


@pytest.mark.parametrize(("images", "outlines"), [("", ""), ("images", "annotations")])
def test_classes_are_those_of_all_files_in_one_order(tmp_path: Path, images: str, outlines: str) -> None:
    write(
        tmp_path / images / "b.tif",
        tmp_path / outlines / "b.xml",
        layer("tumour", (0, 0, 4, 4), (2, 2, 9, 6), (15, 1, 16, 2)),
        layer("stroma", (10, 8, 14, 12)),
    )
    write(tmp_path / images / "a.svs", tmp_path / outlines / "a.xml", layer("immune", (5, 5, 8, 8)), layer("tumour"))
    data = open_dataset(tmp_path)
    assert isinstance(data, AperioDataset)
    assert is_dataset(tmp_path)
    assert (data.names, data.class_names) == (("a", "b"), ("immune", "stroma", "tumour"))
    assert data.image_path(0) == tmp_path / images / "a.svs"
    assert data.load(0).class_ids.tolist() == [1]
    sample = data.load(1)
    assert (sample.class_ids.tolist(), sample.dropped, sample.image.mpp) == ([3, 3, 2], 1, 0.25)
    assert sample.layers.shape == (2, *SIZE)  # the first two overlap
    assert [int((sample.layers == k).sum()) for k in (1, 2, 3)] == [16, 28, 16]
    assert open_cell_set(tmp_path).class_names() == data.class_names
    assert [path for _, path in find_images([tmp_path])] == [data.image_path(0), data.image_path(1)]


def test_the_pixel_size_of_the_image_stands_above_that_of_the_outlines(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", tmp_path / "a.xml", layer("x"))
    pixels, scale = np.zeros((*SIZE, 3), np.uint8), {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", **scale)
    assert open_dataset(tmp_path).load(0).image.mpp == 0.5
    write(tmp_path / "a.tif", tmp_path / "a.xml", layer("x"), mpp="4000")
    assert open_dataset(tmp_path).load(0).image.mpp is None


def test_outlines_without_any_class_are_cells(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", tmp_path / "a.xml", layer("", (0, 0, 4, 4)))
    data = open_dataset(tmp_path)
    assert (data.class_names, data.load(0).class_ids.tolist()) == (("cell",), [1])


def test_a_region_without_a_class_among_others_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", tmp_path / "a.xml", layer("x", (0, 0, 4, 4)), layer("", (5, 5, 9, 9)), layer("y"))
    with pytest.raises(DataError, match=r"a\.xml, layer 1, region 1: the class must be one of x, y, got none"):
        open_dataset(tmp_path).load(0)


def test_partners_are_missing(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.tif", tmp_path / f"{name}.xml", layer("x"))
    (tmp_path / "b.xml").unlink()
    with pytest.raises(DataError, match=r"1 image without <stem>\.xml: b;"):
        open_dataset(tmp_path)
    (tmp_path / "b.tif").unlink()
    (tmp_path / "c.tif").unlink()
    with pytest.raises(DataError, match=r"1 <stem>\.xml without image: c;"):
        open_dataset(tmp_path)
    (tmp_path / "a.tif").unlink()
    assert not is_dataset(tmp_path)
    with pytest.raises(DataError, match="no data set that everycell knows"):
        open_dataset(tmp_path)
