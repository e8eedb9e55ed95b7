"""Speed of run-length codes made from crops, beside pasting every mask and pycocotools' encoder.

    python benchmarks/rle_speed.py [--out benchmarks/rle_speed.json]

1000 generated cells on 1100×1000 px, all codes equal to the last character. The peer pastes a crop into an empty mask
of the whole image and encodes that, cell by cell; the encoder asks for column-major order, so a mask in numpy's usual
order is copied with `np.asfortranarray`, as pycocotools tells its users. Pasting into a column-major mask, which saves
that copy, is measured as well. In turns, in one process, on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import pycocotools.mask

from crowded_images import DIAMETER_PX
from everycell.datasets import synthetic_sample
from everycell.files import write_bytes
from everycell.structures import MaskCrops
from everycell.structures.rle import encode

SIZE, N_CELLS, ROUNDS = (1100, 1000), 1000, 5
OURS, PEER, COLUMN_MAJOR = "everycell", "paste and pycocotools", "paste column-major and pycocotools"


def paste_and_encode(masks: MaskCrops, order: Literal["C", "F"]) -> list[str]:
    codes = []
    for rows, columns, bits in masks:
        full = np.zeros(SIZE, np.uint8, order=order)
        full[rows, columns] = bits
        codes.append(pycocotools.mask.encode(np.asfortranarray(full))["counts"].decode())
    return codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    drawn = synthetic_sample(np.random.default_rng(0), SIZE, N_CELLS, diameter_px=DIAMETER_PX)
    masks = drawn.to_instances().masks
    ways: dict[str, Callable[[], list[str]]] = {
        OURS: partial(encode, masks, SIZE),
        PEER: partial(paste_and_encode, masks, "C"),
        COLUMN_MAJOR: partial(paste_and_encode, masks, "F"),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    codes: dict[str, list[str]] = {}
    for turn in range(ROUNDS + 1):  # the first turn warms up
        for way, action in ways.items():
            start = time.perf_counter()
            codes[way] = action()
            if turn:
                seconds[way].append(time.perf_counter() - start)
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    report = {
        "measured": "median seconds for all cells",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.platform()}, {os.cpu_count()} processors",
        "load_average": round(os.getloadavg()[0], 1),  # of the last minute, this benchmark included
        "versions": {name: version(name) for name in ("everycell", "pycocotools", "numpy")},
        "size": SIZE,
        "cells": len(masks),
        "mean_area_px": round(float(masks.areas().mean()), 1),
        "rounds": ROUNDS,
        "identical": codes[OURS] == codes[PEER] == codes[COLUMN_MAJOR],
        "seconds": {way: round(median, 5) for way, median in medians.items()},
        "times_faster": {way: round(medians[way] / medians[OURS], 1) for way in (PEER, COLUMN_MAJOR)},
    }
    print(json.dumps(report, indent=1))
    write_bytes(options.out, (json.dumps(report, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
