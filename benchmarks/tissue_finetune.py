"""What fine-tuning on a few images gains on them, and what it costs on the old ones.

    python benchmarks/tissue_finetune.py --data DIR --model FOLD_RUN/last.safetensors --work WORK [--case breast colon]

DIR holds `consep4/train` and `tnbc`. The model is one trained without `tissue_experiments.FOLD`. Each case is one
`everycell train --from MODEL --old …`; runs live in WORK. Figures are those of the table that ends a run: cells above
each model's own score threshold, blind to classes where models or data differ in them.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from everycell.files import write_bytes
from timing import machine
from tissue_experiments import FOLD


@dataclass(frozen=True)
class Case:
    """Images to train on, to hold out, and of the old kind, as `set/name`."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    old: tuple[str, ...]


def _of(name: str, images: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{name}/{image}" for image in images)


CASES = {
    # Another organ; the patients held out are others than those trained on.
    "breast": Case(
        train=_of("tnbc", ("01_1", "02_1", "03_1", "04_1")),
        validation=_of("tnbc", (f"{patient:02d}_1" for patient in range(5, 12))),
        old=_of("consep4", FOLD[3:]),
    ),
    # More of the same; the old images are ones the model was trained on.
    "colon": Case(
        train=_of("consep4", FOLD[:3]),
        validation=_of("consep4", FOLD[3:]),
        old=_of("consep4", ("train_1", "train_11", "train_14")),
    ),
}


def gather(images: tuple[str, ...], data: Path, folder: Path) -> Path:
    """A folder of these samples alone, in their own layout."""
    shutil.rmtree(folder, ignore_errors=True)
    for image in images:
        name, stem = image.split("/")
        if name == "consep4":
            shutil.copytree(data / "consep4/train" / stem, folder / stem)
            continue
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            (path,) = (data / name / kind).glob(f"{stem}.*")
            shutil.copy(path, folder / kind)
    return folder


def fine_tune(case: Case, data: Path, model: Path, work: Path) -> list[dict[str, object]]:
    """Rows of the table before and after."""
    folders = {name: gather(getattr(case, name), data, work / name) for name in ("train", "validation", "old")}
    command = [sys.executable, "-m", "everycell", "train", folders["train"], "-o", work / "run", "--overwrite"]
    command += ["--from", model, "--validation", folders["validation"], "--old", folders["old"]]
    subprocess.run([str(part) for part in command], check=True)
    with (work / "run/before_after.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: text if key == "data" else round(float(text), 4) for key, text in row.items()} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    for name in args.case:
        rows = fine_tune(CASES[name], args.data, args.model, args.work / name)
        known = json.loads(args.out.read_bytes()) if args.out.exists() else {"runs": {}}
        known["runs"][name] = rows
        write_bytes(args.out, json.dumps(known | machine(), indent=1).encode())
        print(json.dumps({name: rows}, indent=1))


if __name__ == "__main__":
    main()
