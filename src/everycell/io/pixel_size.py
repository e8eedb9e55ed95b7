"""Micrometres per pixel, when a file says it believably."""

from __future__ import annotations

import re

import tifffile

MIN_MPP, MAX_MPP = 0.05, 20.0

_UM_PER_UNIT = {
    "µm": 1.0,
    "μm": 1.0,
    "\\u00b5m": 1.0,  # ImageJ writes the escape itself
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "inch": 25_400.0,
}
_SCREEN_DPI = (72.0, 96.0)


def believable_mpp(x: object, y: object) -> float | None:
    """µm/px from what a file says along x and y, as numbers or text.

    None when one is missing, they differ by more than 1 %, or they lie outside 0.05-20 µm/px.
    """
    x, y = _number(x), _number(y)
    if not x or not y or not abs(x - y) <= 0.01 * max(x, y) or not MIN_MPP <= x <= MAX_MPP:
        return None
    return x


def in_um(value: object, unit: str) -> float | None:
    """A length in µm, None for an unknown unit."""
    um, number = _UM_PER_UNIT.get(unit.strip().lower()), _number(value)
    return number * um if number and um else None


def tiff_mpp(tif: tifffile.TiffFile) -> float | None:
    """µm/px of the first image: OME, then Aperio, then ImageJ, then the resolution tags.

    None when nothing is said, x and y differ by more than 1 %, a resolution tag holds a screen default of 72 or
    96 dpi, or the result lies outside 0.05-20 µm/px.
    """
    page = tif.pages.first
    if tif.ome_metadata:
        x, y = (_ome_um(tif.ome_metadata, axis) for axis in "XY")
    elif page.description.startswith("Aperio") and (found := re.search(r"\bMPP\s*=\s*([\d.]+)", page.description)):
        x = y = _number(found[1])
    else:
        unit = {2: "inch", 3: "cm"}.get(int(page.resolutionunit), "")
        if tif.imagej_metadata:
            unit = str(tif.imagej_metadata.get("unit", unit))
        x, y = (_tag_um(page, tag, unit) for tag in ("XResolution", "YResolution"))
    return believable_mpp(x, y)


def _ome_um(xml: str, axis: str) -> float | None:
    size = re.search(rf"""\bPhysicalSize{axis}=["']([^"']+)""", xml)
    unit = re.search(rf"""\bPhysicalSize{axis}Unit=["']([^"']+)""", xml)
    return in_um(size and size[1], unit[1] if unit else "µm")


def _tag_um(page: tifffile.TiffPage | tifffile.TiffFrame, tag: str, unit: str) -> float | None:
    """µm/px from a tag that holds pixels per `unit`, a pair (numerator, denominator)."""
    um = _UM_PER_UNIT.get(unit.strip().lower())
    found = page.aspage().tags.get(tag)
    if um is None or found is None:
        return None
    numerator, denominator = found.value
    if not numerator or not denominator:
        return None
    per_unit = numerator / denominator
    per_inch = per_unit * _UM_PER_UNIT["inch"] / um
    return None if any(abs(per_inch - dpi) < 0.5 for dpi in _SCREEN_DPI) else float(um / per_unit)


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
