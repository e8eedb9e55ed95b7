"""How a run was made, as text: what its folder recorded, and "not recorded" for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from everycell.report.run import Run

NOT_RECORDED = "not recorded"

Rows = list[tuple[str, str | tuple[Path, ...]]]
"""Labels with a text, or with paths that the page shows by their last names."""


@dataclass(frozen=True)
class Making:
    """Facts for the page.

    Attributes:
        lead: the line under the title.
        tables: heading → rows.
    """

    lead: str
    tables: dict[str, Rows]


def how_it_was_made(run: Run) -> Making:
    """What the folder says about course, data, machine, versions and settings."""
    versions = run.recorded("versions") or (run.card.versions if run.card else {})
    tables: dict[str, Rows] = {
        "Run": _run(run),
        "Data": _data(run),
        "Machine": _machine(run),
        "Versions": [(name, _text(version)) for name, version in versions.items()] or [("", NOT_RECORDED)],
    }
    tables |= {f"Settings: {name}": _settings(table) for name, table in run.settings.items()}
    return Making(_lead(run), tables)


def _lead(run: Run) -> str:
    parts = []
    if backbone := run.setting("model", "backbone"):
        parts.append(f"Mask R-CNN on {backbone} with FPN")
    if count := len(run.class_names):
        parts.append(f"{count} class{'es' * (count > 1)}")
    if name := run.recorded("data", "name") or (run.card and run.card.data):
        parts.append(f"trained on {name}")
    if total := run.recorded("parameters", "total"):
        parts.append(f"{total:,} parameters")
    return " · ".join([*parts, _epochs(run)])


def _run(run: Run) -> Rows:
    parameters = run.recorded("parameters")
    return [
        ("State", _epochs(run)),
        ("Begun", _text(", ".join(run.recorded("starts") or ()))),
        ("Time", _duration(run.recorded("seconds"))),
        ("Seconds a step", _text(run.recorded("seconds_per_step"))),
        ("Parameters", "{trained:,} trained, of {total:,}".format(**parameters) if parameters else NOT_RECORDED),
        ("Started from", _text(run.recorded("init"))),
        ("Seed", _text(run.setting("train", "seed"))),
        ("Score threshold", _text(run.card and run.card.score_thresh)),
        *(("Note", note) for note in run.recorded("notes") or ()),
    ]


def _data(run: Run) -> Rows:
    card = run.card
    sides = list(run.split.values())
    cells = {side: run.recorded("data", "cells", side) or {} for side in ("train", "validation")}
    diameters = card.diameter_px if card else None
    return [
        ("Name", _text(run.recorded("data", "name") or (card and card.data))),
        ("Licence", _text(run.recorded("data", "licence") or (card and card.licence))),
        ("Folders", run.folders or NOT_RECORDED),
        ("Fingerprint", _text(run.recorded("data", "fingerprint"))),
        ("Images", f"{sides.count('train'):,} training, {sides.count('validation'):,} validation"),
        *(
            (f"Cells: {name}", f"{count:,} training, {cells['validation'].get(name, 0):,} validation")
            for name, count in cells["train"].items()
        ),
        *([] if cells["train"] else [("Cells of each class", NOT_RECORDED)]),
        (
            "Cell diameter",
            "{:g} to {:g} px, median {:g}".format(*(diameters[i] for i in (0, 2, 1))) if diameters else "–",
        ),
        ("Pixel size", f"{card.mpp:g} µm" if card and card.mpp else "mixed or unknown"),
    ]


def _machine(run: Run) -> Rows:
    peak = run.recorded("peak_memory")
    device = [text for text in (run.recorded("device"), run.recorded("device_name")) if text]
    return [
        ("Device", _text(", ".join(device))),
        ("Precision", _text(run.recorded("precision"))),
        ("Processes", _text(run.recorded("world_size"))),
        ("Threads", _text(run.recorded("threads"))),
        ("Peak memory", f"{peak / 2**30:.2f} GiB, {run.recorded('peak_memory_of') or ''}" if peak else NOT_RECORDED),
        ("Platform", _text(run.recorded("platform"))),
    ]


def _settings(table: dict[str, Any]) -> Rows:
    return [(name, _text(value)) for name, value in table.items()]


def _epochs(run: Run) -> str:
    wanted = run.setting("train", "epochs")
    count = f"{len(run.history)} of {wanted or 'unknown'} epochs"
    status = run.recorded("status")
    return f"{status}, {count}" if status else count


def _duration(seconds: float | None) -> str:
    return NOT_RECORDED if seconds is None else f"{timedelta(seconds=round(seconds))} h"


def _text(value: Any) -> str:
    if value is None or value == "":
        return NOT_RECORDED
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
