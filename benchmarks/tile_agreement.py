"""Tiles against the whole image, with a real model on real cells.

    python benchmarks/tile_agreement.py --data DIR [--edge 3072] [--out benchmarks/tile_agreement.json]
                                        [--picture FILE.png]

A mosaic of the most crowded images of DIR (see predict_scale.py) is predicted in float32, once in tiles and once as one
tile with the limits on proposals and detections out of reach. A sure cell scores at least 0.05 above the model's
threshold. Of each way's sure cells those are counted that the other way finds again (mask IoU ≥ 0.8, one to one), those
it finds twice (two cells with IoU above 0.5), and the misses by distance from the nearest seam, the line between two
cores.

Then the most crowded of these images alone, in one tile, are predicted at a low threshold, so that it holds more cells
than the model's detection cap: once as they are, so that the tile is split, and once with the cap out of reach.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import everycell
from everycell.files import write_bytes
from everycell.io import ImageSource, open_source
from everycell.metrics.matching import match
from everycell.metrics.overlap import overlap
from everycell.plot import overlay
from everycell.plot.save import save_png
from everycell.predict import Model
from everycell.predict.engine import TiledPrediction
from everycell.predict.predictor import PredictOptions
from everycell.predict.stitch import centroids
from everycell.predict.tiling import Tiling
from everycell.structures import Instances
from mosaic import crowded_images, write_mosaic
from predict_scale import CELLS_PER_MEGAPIXEL, HEIGHT_PX

FAR = 10**7
SURE = 0.05
MATCH_IOU, SAME_IOU = 0.8, 0.5
SEAM_BINS_PX = (0, 8, 16, 32, 64, 128, FAR)
CROWD_IMAGES, CROWD_EDGE, CROWD_THRESH = 3, 768, 0.1


def uncapped(model: Model) -> Model:
    """The same model with its limits on proposals and detections out of reach."""
    network, settings = model.network, model.card.settings.model_copy(update={"detections_per_image": FAR})
    network.rpn._pre_nms_top_n["testing"] = network.rpn._post_nms_top_n["testing"] = FAR
    network.roi_heads.detections_per_img = FAR
    return Model(network, model.card.model_copy(update={"settings": settings}), model.device, bf16=model.bf16)


def find(model: Model, source: ImageSource, options: PredictOptions, *, whole: bool) -> tuple[Instances, Tiling]:
    """All cells, in tiles or as one tile."""
    tiles = model.tiled(source, options)
    if whole:
        one = Tiling(source.size, max(source.size), 0, tiles.rules.tiling.multiple)
        tiles = TiledPrediction(source, tiles.detector, replace(tiles.rules, tiling=one))
    start = time.perf_counter()
    tiles.run()
    cells = tiles.cells()
    print(f"{len(cells)} cells in {time.perf_counter() - start:.0f} s: {cells.notes}", file=sys.stderr, flush=True)
    return cells, tiles.rules.tiling


def seam_distance(cells: Instances, tiling: Tiling) -> NDArray[np.float64]:
    """Distance of each centroid from the nearest line between two cores, float64 [N], px."""
    points = centroids(cells.masks)
    return np.min(
        [
            np.abs(points[:, axis, None] - [FAR, *(start for start, _ in spans[1:])]).min(axis=1)
            for axis, spans in enumerate((tiling.columns, tiling.rows))
        ],
        axis=0,
    )


def found_again(cells: Instances, others: Instances, thresh: float, tiling: Tiling) -> dict[str, Any]:
    """How many of the sure `cells` are in `others`, and where the misses lie."""
    sure = cells.select(cells.scores >= thresh + SURE)
    iou = overlap(sure.masks, others.masks).iou()
    is_found = np.zeros(len(sure), np.bool_)
    is_found[match(iou, MATCH_IOU).truth] = True
    twice = np.diff((iou > SAME_IOU).tocsr().indptr) > 1
    bins = np.digitize(seam_distance(sure, tiling), SEAM_BINS_PX) - 1
    return {
        "sure": len(sure),
        "found": int(is_found.sum()),
        "share": round(float(is_found.mean()), 5),
        "twice": int(twice.sum()),
        "by_seam_distance": [
            {"from_px": low, "to_px": high if high < FAR else None, "sure": int(n), "missed": int(missed)}
            for low, high, n, missed in zip(
                SEAM_BINS_PX[:-1],
                SEAM_BINS_PX[1:],
                np.bincount(bins, minlength=len(SEAM_BINS_PX) - 1),
                np.bincount(bins[~is_found], minlength=len(SEAM_BINS_PX) - 1),
                strict=True,
            )
        ],
    }


def compare(model: Model, source: ImageSource) -> tuple[dict[str, Any], Instances, Tiling]:
    """The figures of one mosaic, and what the tiles gave."""
    tiled, tiling = find(model, source, PredictOptions(), whole=False)
    whole, _ = find(uncapped(model), source, PredictOptions(), whole=True)
    thresh = model.card.score_thresh
    figures = {
        "size": list(source.size),
        "tiles": len(tiling.tiles),
        "cells_tiled": len(tiled),
        "cells_whole": len(whole),
        "score_thresh": thresh,
        "of_whole_in_tiled": found_again(whole, tiled, thresh, tiling),
        "of_tiled_in_whole": found_again(tiled, whole, thresh, tiling),
        "notes": tiled.notes,
    }
    return figures, tiled, tiling


def crowd(name: str, source: ImageSource) -> dict[str, Any]:
    """The figures of a mosaic whose tiles hold more cells than the cap."""
    options = PredictOptions(score_thresh=CROWD_THRESH)
    split, tiling = find(everycell.load_model(name, device="cpu", bf16=False), source, options, whole=False)
    free = uncapped(everycell.load_model(name, device="cpu", bf16=False))
    whole, _ = find(free, source, options, whole=False)
    return {
        "size": list(source.size),
        "score_thresh": CROWD_THRESH,
        "cells_with_cap": len(split),
        "cells_without_cap": len(whole),
        "of_without_in_with_cap": found_again(whole, split, CROWD_THRESH, tiling),
        "notes": split.notes,
    }


def draw_seams(source: ImageSource, cells: Instances, tiling: Tiling, path: Path, side_px: int = 256) -> None:
    """Outlines around the first crossing of four tiles; the seams are drawn in white."""
    x, y = tiling.columns[1][0], tiling.rows[1][0]
    x0, y0 = x - side_px // 2, y - side_px // 2
    window = (x0, y0, x0 + side_px, y0 + side_px)
    boxes = cells.masks.boxes
    near = (boxes[:, :2] >= (x0, y0)).all(axis=1) & (boxes[:, 2:] <= window[2:]).all(axis=1)
    shown = cells.select(near)
    shown = replace(
        shown,
        boxes=shown.boxes - np.array([x0, y0, x0, y0], np.float32),
        masks=shown.masks.shifted(-x0, -y0),
        image_size=(side_px, side_px),
    )
    picture = overlay(source.read(window), shown)
    middle = picture.shape[0] // 2
    picture[middle, ::8], picture[::8, middle] = 255, 255
    save_png(picture, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--edge", type=int, default=3072)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    images = crowded_images(options.data, CELLS_PER_MEGAPIXEL, HEIGHT_PX)
    record: dict[str, Any] = {
        "model": options.model,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mosaic.tif"
        write_mosaic(path, images[:CROWD_IMAGES], CROWD_EDGE)
        with open_source(path) as source:
            record["crowd"] = crowd(options.model, source)
        record["true_cells"] = round(write_mosaic(path, images, options.edge))
        with open_source(path) as source:
            model = everycell.load_model(options.model, device="cpu", bf16=False)
            figures, tiled, tiling = compare(model, source)
            record["mosaic"] = figures
            if options.picture is not None:
                draw_seams(source, tiled, tiling, options.picture)
    text = json.dumps(record, indent=1)
    print(text)
    if options.out is not None:
        write_bytes(options.out, f"{text}\n".encode())


if __name__ == "__main__":
    main()
