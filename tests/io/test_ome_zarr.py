from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from everycell.errors import DataError
from everycell.io import find_images, open_source, read_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (200, 300, 3), np.uint8)


def write_ome_zarr(
    path: Path,
    levels: list[NDArray[Any]],
    *,
    version: str = "0.5",
    axes: str = "cyx",
    mpp: float | None = 0.25,
    unit: str = "micrometer",
    whole_scale: float = 1,
    **options: Any,
) -> zarr.Group:
    """Levels with the given axes, each half as large as the one before."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for i, level in enumerate(levels):
        array = group.create_array(str(i), shape=level.shape, dtype=level.dtype, **{"chunks": "auto"} | options)
        array[:] = level
        scale = [(mpp or 1) * 2**i if axis in "yx" else 1.0 for axis in axes]
        datasets.append({"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    named = [{"name": axis, "type": "space" if axis in "zyx" else "channel"} for axis in axes]
    for axis in named:
        if axis["type"] == "space" and mpp:
            axis["unit"] = unit
    multiscale: dict[str, Any] = {"axes": named, "datasets": datasets, "name": "test"}
    if whole_scale != 1:
        scale = [whole_scale if axis in "yx" else 1.0 for axis in axes]
        multiscale["coordinateTransformations"] = [{"type": "scale", "scale": scale}]
    metadata = {"multiscales": [multiscale]}
    if version == "0.4":
        multiscale["version"] = version
        group.attrs.update(metadata)
    else:
        group.attrs["ome"] = {"version": version, **metadata}
    return group


def pyramid(axes: str = "cyx") -> list[NDArray[np.uint8]]:
    """Three levels, each with values of its own."""
    source = [RNG.integers(0, 256, (200 >> i, 300 >> i, 3), np.uint8) for i in range(3)]
    source[0] = RGB
    order = {"cyx": (2, 0, 1), "yxc": (0, 1, 2), "xyc": (1, 0, 2)}[axes.lstrip("tz")]
    return [level.transpose(order)[(None,) * (len(axes) - 3)] for level in source]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["cyx", "yxc", "xyc", "tcyx", "zcyx"])
def test_regions_and_levels(tmp_path: Path, version: str, axes: str) -> None:
    levels = pyramid(axes)
    chunks = tuple({"y": 64, "x": 96}.get(axis, 1) for axis in axes)
    write_ome_zarr(tmp_path / "a.zarr", levels, version=version, axes=axes, chunks=chunks)
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr").pixels, RGB)
    with open_source(tmp_path / "a.zarr") as source:
        assert (source.size, source.mpp) == ((200, 300), 0.25)
        np.testing.assert_array_equal(source.read((5, 60, 299, 200)), RGB[60:200, 5:299])
        half = source.read_at((0, 0, 300, 200), 0.5)
    kept = [axes.index(axis) for axis in "yxc"]
    rest = [i for i in range(len(axes)) if i not in kept]
    np.testing.assert_array_equal(half, levels[1].transpose(*kept, *rest).reshape(100, 150, 3))


def test_gray_16_bit_shards_and_small_chunks(tmp_path: Path) -> None:
    gray = (RNG.random((700, 900)) * 5000).astype(np.uint16)
    write_ome_zarr(tmp_path / "a.zarr", [gray], axes="yx", chunks=(50, 30), shards=(350, 300))
    whole = read_image(tmp_path / "a.zarr").pixels
    dark, bright = np.percentile(gray, (1, 99.8))
    np.testing.assert_array_equal(whole[..., 0], ((gray - dark) * (255 / (bright - dark))).clip(0, 255).round())
    with open_source(tmp_path / "a.zarr") as source:
        np.testing.assert_array_equal(source.read((333, 444, 900, 700)), whole[444:, 333:])


def test_five_channels_of_one_chunk_each_or_of_one_together(tmp_path: Path) -> None:
    stains = RNG.integers(0, 256, (5, 90, 80), np.uint8)
    for n, depth in enumerate((1, 2, 5)):
        path = tmp_path / f"{n}.zarr"
        write_ome_zarr(path, [stains], chunks=(depth, 64, 64))
        with pytest.raises(DataError, match=r"has 5 channels; .*--channels \(1 to 5\)"):
            open_source(path)
        with open_source(path, channels=[5, 1, 4]) as source:
            np.testing.assert_array_equal(source.read((7, 3, 80, 90)), stains[[4, 0, 3], 3:, 7:].transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("mpp", "unit", "whole_scale", "expected"),
    [
        (0.5, "micrometer", 1, 0.5),
        (250, "nanometer", 1, 0.25),
        (0.0005, "millimeter", 1, 0.5),
        (1, "micrometer", 0.5, 0.5),
        (0.5, "inch", 1, None),  # 12,700 µm
        (0.5, "parsec", 1, None),
        (None, "", 1, None),
    ],
)
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_pixel_size(
    tmp_path: Path, version: str, mpp: float | None, unit: str, whole_scale: float, expected: float | None
) -> None:
    write_ome_zarr(tmp_path / "a.zarr", pyramid(), version=version, mpp=mpp, unit=unit, whole_scale=whole_scale)
    with open_source(tmp_path / "a.zarr") as source:
        assert source.mpp == (None if expected is None else pytest.approx(expected))


def test_zarr_objects_and_bare_arrays(tmp_path: Path) -> None:
    group = write_ome_zarr(tmp_path / "a.zarr", pyramid())
    zarr.save_array(tmp_path / "b.zarr", RGB)
    zarr.save_array(tmp_path / "c.zarr", RGB[None])
    for given in (group, zarr.open(tmp_path / "b.zarr", mode="r"), tmp_path / "b.zarr"):
        with open_source(given) as source:
            np.testing.assert_array_equal(source.read((5, 60, 299, 200)), RGB[60:200, 5:299])
    with pytest.raises(DataError, match=r"c\.zarr: expected an array .* got shape \(1, 200, 300, 3\)"):
        open_source(tmp_path / "c.zarr")


def test_the_first_image_of_a_collection(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", attributes={"ome": {"bioformats2raw.layout": 3}})
    write_ome_zarr(tmp_path / "a.zarr" / "0", pyramid())
    assert "0" in group
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr").pixels, RGB)


def test_a_zarr_is_found_as_one_image(tmp_path: Path) -> None:
    for name in ("a.ome.zarr", "b.zarr", "b.labels.zarr", "c.overlay.zarr"):
        write_ome_zarr(tmp_path / name, pyramid())
    (tmp_path / "empty.zarr").mkdir()
    for given in (tmp_path, tmp_path / "*.zarr"):
        assert [(stem, path.name) for stem, path in find_images([given])] == [("a", "a.ome.zarr"), ("b", "b.zarr")]
    assert find_images([tmp_path / "b.zarr"]) == [("b", tmp_path / "b.zarr")]


class TestDamage:
    def test_a_missing_chunk_is_the_fill_value(self, tmp_path: Path) -> None:
        write_ome_zarr(tmp_path / "a.zarr", pyramid(), chunks=(3, 100, 100), fill_value=7)
        (tmp_path / "a.zarr" / "0" / "c" / "0" / "1" / "2").unlink()
        with open_source(tmp_path / "a.zarr") as source:
            assert (source.read((200, 100, 300, 200)) == 7).all()
            np.testing.assert_array_equal(source.read((0, 0, 200, 200)), RGB[:, :200])

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_a_chunk_that_cannot_be_decoded_is_named(self, tmp_path: Path, version: str) -> None:
        gray = np.arange(600 * 1300, dtype=np.uint32).reshape(600, 1300).astype(np.uint8)
        write_ome_zarr(tmp_path / "a.zarr", [gray], axes="yx", version=version, chunks=(600, 650))
        chunk = tmp_path / "a.zarr" / "0" / ("0.1" if version == "0.4" else "c/0/1")
        chunk.write_bytes(chunk.read_bytes()[:20])
        with open_source(tmp_path / "a.zarr") as source:
            np.testing.assert_array_equal(source.read((0, 0, 650, 600))[..., 0], gray[:, :650])
            with pytest.raises(DataError, match=r"a\.zarr/0: the chunk at row 0, column 650") as caught:
                source.read((640, 0, 660, 5))
            assert "\n" not in str(caught.value)

    def test_a_missing_level(self, tmp_path: Path) -> None:
        group = write_ome_zarr(tmp_path / "a.zarr", pyramid())
        del group["1"]
        with pytest.raises(DataError, match=r"a\.zarr lists a level '1' that is not there"):
            open_source(tmp_path / "a.zarr")

    def test_groups_that_are_no_image(self, tmp_path: Path) -> None:
        zarr.open_group(tmp_path / "none.zarr", mode="w")
        with pytest.raises(DataError, match=r"none\.zarr is a Zarr group without OME-Zarr's list of levels"):
            open_source(tmp_path / "none.zarr")
        zarr.open_group(tmp_path / "old.zarr", mode="w", attributes={"multiscales": [{"datasets": [{"path": "0"}]}]})
        with pytest.raises(DataError, match=r"multiscales, with axes, as of version 0\.4"):
            open_source(tmp_path / "old.zarr")
        zarr.open_group(tmp_path / "plate.zarr", mode="w", attributes={"ome": {"plate": {"wells": []}}})
        with pytest.raises(DataError, match=r"plate\.zarr is a plate of many images; name one of them"):
            open_source(tmp_path / "plate.zarr")

    def test_a_stack(self, tmp_path: Path) -> None:
        write_ome_zarr(tmp_path / "a.zarr", [np.zeros((2, 5, 20, 30), np.uint8)], axes="czyx")
        with pytest.raises(DataError, match=r"is a stack with axes C=2, Z=5, Y=20, X=30, expected one plane"):
            open_source(tmp_path / "a.zarr")

    def test_axes_that_do_not_fit(self, tmp_path: Path) -> None:
        write_ome_zarr(tmp_path / "a.zarr", [np.zeros((20, 30), np.uint8)], axes="cyx")
        with pytest.raises(DataError, match=r"a\.zarr/0 has shape \(20, 30\), which its axes c, y, x do not describe"):
            open_source(tmp_path / "a.zarr")

    def test_broken_metadata(self, tmp_path: Path) -> None:
        (tmp_path / "a.zarr").mkdir()
        (tmp_path / "a.zarr" / "zarr.json").write_text('{"zarr_format": 3, ')
        with pytest.raises(DataError, match=r"cannot decode .*a\.zarr"):
            open_source(tmp_path / "a.zarr")
