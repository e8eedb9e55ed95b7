from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from numpy.typing import NDArray

from everycell.datasets import JoinedDataset, open_dataset
from everycell.errors import DataError

SIZE = (12, 20)


def labels_of(**corners: tuple[int, int, int, int]) -> NDArray[np.uint16]:
    """Rectangles: `v7=(y0, x0, y1, x1)` gives value 7."""
    labels = np.zeros(SIZE, np.uint16)
    for name, (y0, x0, y1, x1) in corners.items():
        labels[y0:y1, x0:x1] = int(name[1:])
    return labels


def write_cell_folder(folder: Path, **masks: NDArray[Any]) -> None:
    folder.mkdir(parents=True)
    tifffile.imwrite(folder / "image.tif", np.full((*SIZE, 4), 9, np.uint8), photometric="rgb", compression="zlib")
    for name, mask in masks.items():
        tifffile.imwrite(folder / f"{name}.tif", mask)


def write_pair(image: Path, mask: Path, labels: NDArray[Any]) -> None:
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full(SIZE, 9, np.uint8)).save(image)
    if mask.suffix == ".npy":
        np.save(mask, labels)
    elif mask.suffix == ".png":
        PIL.Image.fromarray(labels).save(mask)
    else:
        tifffile.imwrite(mask, labels)


class TestCellFolders:
    def test_classes_values_and_missing_files(self, tmp_path: Path) -> None:
        write_cell_folder(tmp_path / "b", class1=labels_of(v5=(0, 0, 3, 3), v2=(5, 5, 9, 9)).astype(np.float64))
        write_cell_folder(tmp_path / "a", class3=labels_of(v1=(0, 0, 2, 2)), class1=labels_of(v9=(4, 4, 8, 8)))
        data = open_dataset(tmp_path)
        assert data.names == ("a", "b")
        assert data.class_names == ("class1", "class2", "class3")
        assert data.image_path(1) == tmp_path / "b" / "image.tif"
        sample = data.load(0)
        assert sample.name == "a"
        assert sample.image.pixels.shape == (*SIZE, 3)
        assert sample.class_ids.tolist() == [1, 3]
        assert sample.layers.shape == (1, *SIZE)
        assert (sample.layers[0, 5, 5], sample.layers[0, 1, 1], sample.layers[0, 9, 9]) == (1, 2, 0)
        assert data.load(1).class_ids.tolist() == [1, 1]  # value 2 comes before 5
        assert data.load(1).layers[0, 6, 6] == 1

    def test_overlapping_classes_go_to_a_second_layer(self, tmp_path: Path) -> None:
        write_cell_folder(
            tmp_path / "a",
            class1=labels_of(v1=(0, 0, 6, 6)),
            class2=labels_of(v1=(4, 4, 9, 9)),
            class3=labels_of(v1=(9, 9, 12, 12)),
        )
        sample = open_dataset(tmp_path).load(0)
        assert sample.layers.shape[0] == 2
        assert sample.layers[:, 5, 5].tolist() == [1, 2]
        assert sample.layers[:, 10, 10].tolist() == [3, 0]
        assert sample.to_instances().masks.areas().tolist() == [36, 25, 9]

    def test_tiny_cells_are_dropped_and_counted_and_a_cell_in_two_parts_stays_one(self, tmp_path: Path) -> None:
        labels = labels_of(v1=(0, 0, 1, 3), v2=(3, 0, 4, 4), v3=(6, 0, 7, 2))
        labels[11, 10:12] = 3
        write_cell_folder(tmp_path / "a", class1=labels)
        sample = open_dataset(tmp_path).load(0)
        assert sample.dropped == 1
        assert len(sample.class_ids) == 2
        assert sample.to_instances().masks.areas().tolist() == [4, 4]
        assert sample.layers[0, 6, 0] == sample.layers[0, 11, 11] == 2

    def test_no_cells_at_all(self, tmp_path: Path) -> None:
        write_cell_folder(tmp_path / "a", class1=labels_of())
        sample = open_dataset(tmp_path).load(0)
        assert (len(sample.class_ids), sample.layers.max(), sample.dropped) == (0, 0, 0)

    def test_folders_without_a_partner(self, tmp_path: Path) -> None:
        write_cell_folder(tmp_path / "good", class1=labels_of())
        for i in range(7):
            write_cell_folder(tmp_path / f"bare{i}")
        with pytest.raises(DataError, match=r"7 image\.tif without class<N>\.tif: bare0, .*bare4, …"):
            open_dataset(tmp_path)

    def test_masks_without_an_image(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        tifffile.imwrite(tmp_path / "a" / "class1.tif", labels_of())
        with pytest.raises(DataError, match=r"has no <name>/image\.tif"):
            open_dataset(tmp_path)
        write_cell_folder(tmp_path / "b", class1=labels_of())
        with pytest.raises(DataError, match=r"1 class<N>\.tif without image\.tif: a;"):
            open_dataset(tmp_path)


class TestLabelPairs:
    @pytest.mark.parametrize("suffix", [".tif", ".png", ".npy"])
    def test_two_folders(self, tmp_path: Path, suffix: str) -> None:
        labels = labels_of(v300=(0, 0, 3, 3), v4=(5, 5, 9, 9))
        write_pair(tmp_path / "images" / "a.png", tmp_path / "labels" / f"a{suffix}", labels)
        data = open_dataset(tmp_path)
        assert (data.names, data.class_names, len(data)) == (("a",), ("cell",), 1)
        sample = data.load(0)
        assert sample.class_ids.tolist() == [1, 1]
        np.testing.assert_array_equal(sample.layers[0], np.select([labels == 4, labels == 300], [1, 2], 0))

    @pytest.mark.parametrize("suffix", ["tif", "png"])
    def test_side_by_side(self, tmp_path: Path, suffix: str) -> None:
        write_pair(tmp_path / "a.png", tmp_path / f"a_masks.{suffix}", labels_of(v1=(0, 0, 3, 3)))
        data = open_dataset(tmp_path)
        assert data.image_path(0) == tmp_path / "a.png"
        assert data.load(0).layers.sum() == 9

    def test_huge_label_values(self, tmp_path: Path) -> None:
        labels = np.full(SIZE, 2**40, np.int64)  # no background pixel
        labels[:2] = 7
        write_pair(tmp_path / "images" / "a.png", tmp_path / "labels" / "a.npy", labels)
        layer = open_dataset(tmp_path).load(0).layers[0]
        assert (layer[:2] == 1).all()
        assert (layer[2:] == 2).all()

    def test_a_palette_png_mask_holds_indexes(self, tmp_path: Path) -> None:
        write_pair(tmp_path / "images" / "a.png", tmp_path / "labels" / "a.png", labels_of().astype(np.uint8))
        mask = PIL.Image.fromarray(labels_of(v2=(0, 0, 3, 3)).astype(np.uint8), mode="L").convert("P")
        mask.putpalette([0, 0, 0, 255, 0, 0, 255, 0, 0])
        mask.save(tmp_path / "labels" / "a.png")
        assert len(open_dataset(tmp_path).load(0).class_ids) == 1

    def test_a_boolean_mask_is_not_inverted(self, tmp_path: Path) -> None:
        write_pair(tmp_path / "images" / "a.png", tmp_path / "labels" / "a.tif", labels_of(v1=(0, 0, 3, 3)) > 0)
        assert open_dataset(tmp_path).load(0).layers.sum() == 9

    def test_partners_are_missing(self, tmp_path: Path) -> None:
        for name in "abc":
            write_pair(tmp_path / "images" / f"{name}.png", tmp_path / "labels" / f"{name}.tif", labels_of())
        (tmp_path / "labels" / "b.tif").unlink()
        with pytest.raises(DataError, match="1 image without mask: b;"):
            open_dataset(tmp_path)
        for name in "bc":
            (tmp_path / "images" / f"{name}.png").unlink()
        with pytest.raises(DataError, match="1 mask without image: c;"):
            open_dataset(tmp_path)

    def test_two_images_of_one_stem(self, tmp_path: Path) -> None:
        write_pair(tmp_path / "images" / "a.png", tmp_path / "labels" / "a.tif", labels_of())
        write_pair(tmp_path / "images" / "a.jpg", tmp_path / "labels" / "a.tif", labels_of())
        with pytest.raises(DataError, match=r"a\.jpg and a\.png have the same stem"):
            open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.full(SIZE, 0.5), r"a\.tif holds 0\.5 at row 0, column 0"),
        (np.full(SIZE, np.nan), r"a\.tif holds nan at row 0"),
        (np.full(SIZE, np.inf), r"a\.tif holds inf at row 0"),
        (np.full(SIZE, -3, np.int16), r"a\.tif holds -3 at row 0"),
        (np.zeros((5, 6), np.uint8), r"a\.tif is 5 × 6 px, but its image is 12 × 20 px"),
        (np.zeros((*SIZE, 3), np.uint8), r"a\.tif has 3 channels"),
    ],
)
def test_masks_that_are_none(tmp_path: Path, mask: NDArray[Any], said: str) -> None:
    write_pair(tmp_path / "images" / "a.png", tmp_path / "labels" / "a.tif", labels_of())
    tifffile.imwrite(tmp_path / "labels" / "a.tif", mask, photometric="rgb" if mask.ndim == 3 else "minisblack")
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path).load(0)


def test_a_folder_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"<name>/image\.tif .* images/<stem>\.png .* <stem>_masks\.tif"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(tmp_path / "no")


class TestJoined:
    def test_order_and_names(self, tmp_path: Path) -> None:
        for part, stems in (("x", "ab"), ("y", "bc")):
            for stem in stems:
                paths = (tmp_path / part / folder / f"{stem}.png" for folder in ("images", "labels"))
                write_pair(*paths, labels_of(v1=(0, 0, 3, 3)))
        joined = JoinedDataset([open_dataset(tmp_path / "x"), open_dataset(tmp_path / "y")])
        assert joined.names == ("a", "1-b", "2-b", "c")
        assert [joined.load(i).name for i in range(len(joined))] == list(joined.names)
        assert joined.image_path(2) == tmp_path / "y" / "images" / "b.png"

    def test_class_counts_must_agree(self, tmp_path: Path) -> None:
        write_cell_folder(tmp_path / "x" / "a", class2=labels_of())
        write_cell_folder(tmp_path / "y" / "a", class1=labels_of())
        with pytest.raises(DataError, match=r"same number of classes, got \[2, 1\]"):
            JoinedDataset([open_dataset(tmp_path / "x"), open_dataset(tmp_path / "y")])
