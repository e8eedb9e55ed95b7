"""The page of a training run."""

from __future__ import annotations

import math
from typing import Any

from everycell.report.charts import Chart, line_chart
from everycell.report.examination import Findings
from everycell.report.facts import NOT_RECORDED, how_it_was_made
from everycell.report.page import render_page, weakest_class
from everycell.report.run import Run

_CLASS_CHART = (220.0, 120.0)  # (width, height)
_CLASS_COLUMN = "val_ap50_"

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
    result = findings.result if findings else None
    return render_page(
        "report.html",
        run=run,
        name=run.path.resolve().name,
        findings=findings,
        result=result,
        note=note,
        epochs=_epochs(run),
        epoch_rows=_EPOCH_ROWS,
        weakest=weakest_class(result),
        loss_chart=_loss_chart(run),
        ap_chart=_ap_chart(run),
        class_charts=_class_charts(run),
        facts=how_it_was_made(run),
        not_recorded=NOT_RECORDED,
    )


def _epochs(run: Run) -> dict[str, int]:
    """Heading → row of the first, the best and the last epoch; each row once."""
    roles: dict[int, list[str]] = {}
    for role, row in (("first", 0), ("best", run.best_row), ("last", len(run.history) - 1)):
        if row is not None and len(run.history):
            roles.setdefault(row, []).append(role)
    return {f"{' and '.join(names)} epoch, {run.value('epoch', row):g}": row for row, names in sorted(roles.items())}


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
