"""The measurement table: one row for each cell, also for one whose pixels are all taken by cells above it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.measure import perimeter
from skimage.morphology import convex_hull_image

from everycell.errors import OutputError
from everycell.files import atomic_write
from everycell.structures import Instances, MaskCrops

_LENGTHS = ("perimeter", "major_axis", "minor_axis", "equivalent_diameter")


def measure(instances: Instances, pixels: NDArray[np.uint8], *, image: str = "") -> pd.DataFrame:
    """Measure every cell on its own mask; overlaps count for both cells.

    Values equal those of `skimage.measure.regionprops`: centroids count from the middle of the top left pixel,
    the axes are those of the ellipse with the same second moments, solidity is the pixels over those of the convex
    hull, and the perimeter is the length of the line through the centres of the border pixels (4-connected), after
    Benkrid & Crookes 2000. A mask without pixels has area 0 and NaN elsewhere.

    Args:
        instances: the cells.
        pixels: uint8 [H, W, 3], RGB, the image they were found in.
        image: what the column `image` says.

    Returns:
        Columns image, cell (the value in the label image), class_id, class, score, centroid_x_px, centroid_y_px,
        area_px, perimeter_px, major_axis_px, minor_axis_px, equivalent_diameter_px, eccentricity, solidity, x0, y0,
        x1, y1 (the cell's box, px), mean_red, mean_green, mean_blue (0 … 255) and, when µm/px is known,
        centroid_x_um, centroid_y_um, area_um2, perimeter_um, major_axis_um, minor_axis_um, equivalent_diameter_um.
    """
    assert pixels.shape == (*instances.image_size, 3)
    area, shape = instances.masks.areas(), _shapes(instances.masks)
    columns = {
        "image": np.full(len(instances), image, object),
        "cell": np.arange(1, len(instances) + 1),
        "class_id": instances.class_ids,
        "class": np.array([instances.class_name(i) for i in instances.class_ids.tolist()], object),
        "score": instances.scores,
        "centroid_x_px": shape["x"],
        "centroid_y_px": shape["y"],
        "area_px": area,
        **{f"{name}_px": shape[name] for name in _LENGTHS},
        "eccentricity": shape["eccentricity"],
        "solidity": shape["solidity"],
        **dict(zip(("x0", "y0", "x1", "y1"), instances.boxes.T, strict=True)),
        **_mean_colors(instances.masks, pixels),
    }
    if (mpp := instances.mpp) is not None:
        columns |= {"centroid_x_um": shape["x"] * mpp, "centroid_y_um": shape["y"] * mpp, "area_um2": area * mpp**2}
        columns |= {f"{name}_um": shape[name] * mpp for name in _LENGTHS}
    return pd.DataFrame(columns).astype({"image": "str", "class": "str"})


def write_table(table: pd.DataFrame, *paths: Path) -> None:
    """Write a table to each of `paths`, as `.csv` (floats to 8 digits) or `.parquet`."""
    for path in paths:
        if path.suffix not in (".csv", ".parquet"):
            raise OutputError(f"a table is written as .csv or .parquet, got {path}")
        with atomic_write(path) as temporary:
            if path.suffix == ".csv":
                table.to_csv(temporary, index=False, float_format="%.8g")
            else:
                table.to_parquet(temporary, index=False)


def _pixels_of(masks: MaskCrops) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cell, x and y of every pixel of every mask, int64."""
    cell = np.repeat(np.arange(len(masks)), masks.areas())
    boxes = masks.boxes.astype(np.int64)
    local = np.flatnonzero(masks.bits) - masks.starts[cell]
    rows, columns = np.divmod(local, (boxes[:, 2] - boxes[:, 0])[cell])
    return cell, boxes[cell, 0] + columns, boxes[cell, 1] + rows


def _shapes(masks: MaskCrops) -> dict[str, NDArray[np.float64]]:
    """Moments, perimeter and solidity, float64 [N] each, lengths in px."""
    n, area = len(masks), masks.areas()
    cell, columns, rows = _pixels_of(masks)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (np.bincount(cell, weights=axis, minlength=n) / area for axis in (columns, rows))
        dx, dy = columns - x[cell], rows - y[cell]
        xx, yy, xy = (np.bincount(cell, weights=w, minlength=n) / area for w in (dx * dx, dy * dy, dx * dy))
        middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
        major, minor = middle + spread, np.maximum(middle - spread, 0)
        eccentricity = np.where(major == 0, 0.0, np.sqrt(1 - minor / major))
    by_crop = np.array([_perimeter_and_hull(bits) for _, _, bits in masks], np.float64).reshape(-1, 2)
    return {
        "x": x,
        "y": y,
        "perimeter": by_crop[:, 0],
        "major_axis": 4 * np.sqrt(major),
        "minor_axis": 4 * np.sqrt(minor),
        "equivalent_diameter": np.where(area > 0, np.sqrt(4 * area / np.pi), np.nan),
        "eccentricity": eccentricity,
        "solidity": area / by_crop[:, 1],
    }


def _perimeter_and_hull(bits: NDArray[np.bool_]) -> tuple[float, float]:
    """Perimeter, px, and pixels of the convex hull of one mask."""
    if not bits.any():
        return np.nan, np.nan
    return perimeter(bits), convex_hull_image(bits).sum()  # type: ignore[no-untyped-call]


def _mean_colors(masks: MaskCrops, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    cell, columns, rows = _pixels_of(masks)
    with np.errstate(invalid="ignore"):
        return {
            f"mean_{name}": np.bincount(cell, weights=pixels[rows, columns, channel], minlength=len(masks))
            / masks.areas()
            for channel, name in enumerate(("red", "green", "blue"))
        }
