"""The page: one HTML file that needs no other, no network and no script."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from everycell import __version__
from everycell.metrics import Category
from everycell.report.charts import Chart, line_chart
from everycell.report.examination import ALONE, INEXACT, RIGHT, Findings
from everycell.report.facts import NOT_RECORDED, how_it_was_made
from everycell.report.run import Run
from everycell.structures.colors import class_color

_CLASS_CHART = (220.0, 120.0)  # (width, height)
_CLASS_COLUMN = "val_ap50_"

_MEANINGS = {
    Category.CORRECT: "matched at IoU > 0.5, same class",
    Category.WRONG_CLASS: "matched, another class",
    Category.POOR_LOCALISATION: "overlap too small for a match",
    Category.DUPLICATE: "a second prediction of a matched cell",
    Category.MERGED: "one prediction over several cells",
    Category.SPLIT: "several predictions in one cell",
    Category.MISSED: "nothing predicted there",
    Category.SPURIOUS: "no cell there",
}
_EPOCH_ROWS = {
    "Training loss": "train_loss",
    "objectness": "loss_objectness",
    "proposal boxes": "loss_rpn_box_reg",
    "classes": "loss_classifier",
    "boxes": "loss_box_reg",
    "masks": "loss_mask",
    "Validation loss": "val_loss",
    "AP (IoU 0.50 … 0.95)": "val_map",
    "AP50": "val_ap50",
    "AP75": "val_ap75",
    "F1 at IoU 0.5": "val_f1_50",
}


def render(run: Run, findings: Findings | None = None, note: str = "") -> str:
    """The report of a run as HTML.

    Args:
        run: what the run left behind.
        findings: its model on validation images; without them the page has no pictures and no error analysis.
        note: why there are no findings.
    """
    environment = Environment(
        loader=PackageLoader("everycell.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": _figure, "signed": _signed, "share": _share, "span": _span}
    environment.globals |= {"color": _color, "isnan": math.isnan}
    return environment.get_template("report.html").render(
        run=run,
        name=run.path.resolve().name,
        findings=findings,
        note=note,
        epochs=_epochs(run),
        epoch_rows=_EPOCH_ROWS,
        weakest=_weakest_class(findings),
        loss_chart=_loss_chart(run),
        ap_chart=_ap_chart(run),
        class_charts=_class_charts(run),
        meanings=[(category.label, meaning) for category, meaning in _MEANINGS.items()],
        outcome_colors={"correct": RIGHT, "found, but wrong": INEXACT, "missed or spurious": ALONE},
        facts=how_it_was_made(run),
        not_recorded=NOT_RECORDED,
        version=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _epochs(run: Run) -> dict[str, int]:
    """Heading → row of the first, the best and the last epoch; each row once."""
    roles: dict[int, list[str]] = {}
    for role, row in (("first", 0), ("best", run.best_row), ("last", len(run.history) - 1)):
        if row is not None and len(run.history):
            roles.setdefault(row, []).append(role)
    return {f"{' and '.join(names)} epoch, {run.value('epoch', row):g}": row for row, names in sorted(roles.items())}


def _weakest_class(findings: Findings | None) -> tuple[str, float] | None:
    """(name, AP50) of the class with the lowest AP50 where several have one."""
    classes = findings.result.per_class.items() if findings else ()
    known = sorted((row.ap50, name) for name, row in classes if not math.isnan(row.ap50))
    return (known[0][1], known[0][0]) if len(known) > 1 else None


def _loss_chart(run: Run) -> Chart:
    return _chart(run, "Losses over epochs", {"training": "train_loss", "validation": "val_loss"})


def _ap_chart(run: Run) -> Chart:
    columns = {"AP50": "val_ap50", "AP": "val_map", "AP75": "val_ap75"}
    return _chart(run, "Average precision over epochs", columns)


def _class_charts(run: Run) -> dict[str, Chart]:
    """Class → AP50 over epochs, all on one scale; empty where the run did not record it."""
    columns = [column for column in map(str, run.history) if column.startswith(_CLASS_COLUMN)]
    highest = run.history[columns].max().max() if columns else float("nan")
    top = None if math.isnan(highest) else float(highest)
    return {
        column.removeprefix(_CLASS_COLUMN): _chart(
            run, "AP50 over epochs", {"AP50": column}, size=_CLASS_CHART, y_max=top
        )
        for column in columns
    }


def _chart(run: Run, title: str, columns: dict[str, str], **options: Any) -> Chart:
    series = {label: run.history[column].tolist() for label, column in columns.items() if column in run.history}
    best = None if run.best_row is None else run.value("epoch", run.best_row)
    return line_chart(title, run.history["epoch"].tolist(), series, best=best, **options)


def _figure(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _span(low: float, high: float) -> str:
    """Bounds of a stratum whose values are 0 or more: low < value <= high."""
    if math.isinf(high):
        return "all" if math.isinf(low) else f"over {low:.3g}"
    if high == 0:
        return "0"
    return f"up to {high:.3g}" if math.isinf(low) else f"{low:.3g} to {high:.3g}"


def _color(class_id: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*class_color(class_id))
