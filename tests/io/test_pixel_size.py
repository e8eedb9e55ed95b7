from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile

from everycell.io import read_image

PIXELS = np.zeros((8, 8), np.uint8)


def mpp_of(path: Path, **options: Any) -> float | None:
    tifffile.imwrite(path, PIXELS, **options)
    return read_image(path).mpp


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((40_000, 40_000), "centimeter", 0.25),
        ((50_800, 50_800), "inch", 0.5),
        ((40_000, 40_000), "none", None),
        ((40_000, 40_200), "centimeter", 0.25),
        ((40_000, 41_000), "centimeter", None),
        ((72, 72), "inch", None),
        ((96, 96), "inch", None),
        ((28.346, 28.346), "centimeter", None),  # 72 dpi
        ((300, 300), "inch", None),  # 84.7 µm, beyond 20
        ((1_270, 1_270), "inch", 20.0),
        ((1_260, 1_260), "inch", None),
        ((500_000, 500_000), "inch", 0.0508),
        ((520_000, 520_000), "inch", None),  # 0.0488 µm
        ((0, 0), "inch", None),
    ],
)
def test_resolution_tags(tmp_path: Path, resolution: Any, unit: str, expected: float | None) -> None:
    found = mpp_of(tmp_path / "a.tif", resolution=resolution, resolutionunit=unit)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-3))


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
def test_imagej_units(tmp_path: Path, unit: str) -> None:
    found = mpp_of(tmp_path / "a.tif", imagej=True, resolution=(4, 4), metadata={"unit": unit})
    assert found == pytest.approx(0.25)


def test_imagej_pixels_are_no_unit(tmp_path: Path) -> None:
    assert mpp_of(tmp_path / "a.tif", imagej=True, resolution=(4, 4), metadata={"unit": "pixel"}) is None


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [(0.5, "µm", 0.5), (500, "nm", 0.5), (0.0005, "mm", 0.5), (0.5, None, 0.5), (0.5, "pixel", None), (25, "µm", None)],
)
def test_ome(tmp_path: Path, size: float, unit: str | None, expected: float | None) -> None:
    metadata: dict[str, Any] = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size}
    if unit:
        metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    assert mpp_of(tmp_path / "a.ome.tif", metadata=metadata) == (expected and pytest.approx(expected))


def test_aperio(tmp_path: Path) -> None:
    text = "Aperio Image Library v12.0.1\r\n8x8 [0,0 8x8]|AppMag = 40|MPP = 0.2520"
    assert mpp_of(tmp_path / "a.svs", description=text, metadata=None) == 0.252


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_png_and_jpeg_are_not_believed(tmp_path: Path, suffix: str) -> None:
    PIL.Image.fromarray(PIXELS).save(tmp_path / f"a.{suffix}", dpi=(50_800, 50_800))
    assert read_image(tmp_path / f"a.{suffix}").mpp is None
