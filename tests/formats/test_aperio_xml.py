import numpy as np
import pytest

from everycell.errors import DataError
from everycell.formats import Classes, open_cell_set, read_aperio_xml

SQUARE = [(1, 1), (4, 1), (4, 4), (1, 4)]
BOW = [(1, 0.9), (5, 5.1), (5, 0.9), (1, 5.1)]


def region(corners, **attributes):
    given = "".join(f' {key}="{value}"' for key, value in {"Id": 1, "Type": 0, "NegativeROA": 0, **attributes}.items())
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in corners)
    return f"<Region{given}><Vertices>{vertices}</Vertices></Region>"


def layer(name, *regions, number=1):
    attribute = f'<Attributes><Attribute Name="{name}" Id="0" Value=""/></Attributes>' if name else ""
    return f'<Annotation Id="{number}" Name="">{attribute}<Regions>{"".join(regions)}</Regions></Annotation>'


def write(path, *layers, mpp='MicronsPerPixel="0.25"'):
    path.write_text(f'<?xml version="1.0"?><Annotations {mpp}>{"".join(layers)}</Annotations>', encoding="utf-8")
    return path


def test_regions_become_cells_of_their_layers_class(tmp_path):
    path = write(
        tmp_path / "a.xml",
        layer("Lymphocyte", region(SQUARE), region([(5.5, 5.5), (9.4, 5.5), (9.4, 7.4), (5.5, 7.4)])),
        layer("Epithelial", region([(0, 0), (2, 0), (2, 1), (0, 1)], Type=1), number=2),
        layer("Neutrophil", number=3),
    )
    cells = read_aperio_xml(path, (8, 10))
    assert cells.class_names == ("Epithelial", "Lymphocyte", "Neutrophil")
    assert cells.class_ids.tolist() == [2, 2, 1]
    assert cells.mpp == 0.25
    assert cells.notes == ()
    np.testing.assert_array_equal(cells.scores, [1, 1, 1])
    expected = np.zeros((8, 10), int)
    expected[1:4, 1:4] = 1
    expected[5:7, 5:9] = 2  # centres 5.5 and 6.5; 5.5 … 8.5
    expected[0, :2] = 3
    np.testing.assert_array_equal(cells.to_labels(), expected)


def test_a_crossing_outline_is_filled_by_the_even_odd_rule_and_counted(tmp_path):
    cells = read_aperio_xml(write(tmp_path / "a.xml", layer("a", region(BOW), region(SQUARE))), (8, 8))
    assert cells.notes == ("1 of 2 outlines cross themselves; inside is told by the even-odd rule",)
    np.testing.assert_array_equal(cells.masks.crop(0), [[1, 0, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 0, 1]])


def test_the_layers_own_name_stands_in_for_a_missing_attribute(tmp_path):
    content = layer("", region(SQUARE)).replace('Name=""', 'Name="Tumour"')
    assert read_aperio_xml(write(tmp_path / "a.xml", content), (8, 8)).class_names == ("Tumour",)


def test_classes_that_are_given_come_in_their_order(tmp_path):
    path = write(tmp_path / "a.xml", layer("b", region(SQUARE)), mpp="")
    cells = read_aperio_xml(path, (8, 8), Classes(("c", "b")), mpp=0.5)
    assert (cells.class_ids.tolist(), cells.mpp) == ([2], 0.5)
    assert read_aperio_xml(path, (8, 8)).mpp is None


def test_a_folder_of_them_is_a_cell_set(tmp_path):
    write(tmp_path / "x.xml", layer("b", region(SQUARE)))
    write(tmp_path / "y.xml", layer("a", region(SQUARE)))
    (tmp_path / "x.svs").write_bytes(b"")
    found = open_cell_set(tmp_path)
    assert (found.names, found.told_by, found.class_names()) == (("x", "y"), "name", ("a", "b"))
    assert found.read("x", (8, 8), Classes(("a", "b"))).class_ids.tolist() == [2]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (region(SQUARE, Type=2), "layer 1, region 1: expected a free-hand .* got one of Type 2"),
        (region(SQUARE, NegativeROA=1), "got a negative region"),
        (region(SQUARE[:2]), "3 or more finite corners, got 2"),
        (region([("nan", 1), *SQUARE]), "finite corners"),
        (region([("left", 1), *SQUARE]), "numbers X and Y"),
        (region(SQUARE).replace('X="4"', "", 1), "numbers X and Y, got 'X'"),
    ],
)
def test_a_region_that_is_no_cell_is_a_data_error(tmp_path, content, says):
    with pytest.raises(DataError, match=says) as error:
        read_aperio_xml(write(tmp_path / "a.xml", layer("a", content)), (8, 8))
    assert "a.xml" in str(error.value)


def test_an_unknown_class_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"region 1: the class must be one of b, got a"):
        read_aperio_xml(write(tmp_path / "a.xml", layer("a", region(SQUARE))), (8, 8), Classes(("b",)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot read the Aperio XML"),
        ("<Annotations><Annotation>", "cannot read"),
        ("<svg/>", "expected the root element Annotations, got svg"),
        ('<Annotations MicronsPerPixel="-1"/>', "MicronsPerPixel must be a number above 0, got '-1'"),
    ],
)
def test_another_file_is_a_data_error(tmp_path, text, says):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DataError, match=says):
        read_aperio_xml(tmp_path / "a.xml", (8, 8))
