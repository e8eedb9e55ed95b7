"""What `everycell evaluate` prints."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.markup import escape
from rich.table import Table

from everycell.evaluate import BestThreshold, ErrorBreakdown, EvaluationResult, PairedComparison, Stratum
from everycell.evaluate.summary import Measure, length_text, summarise
from everycell.metrics import Interval

_N_WORST = 5
_WITH_LIMIT = ("map", "ap50", "ap75", "ar", "class_agnostic.ap", "class_agnostic.ap50")
_SECTIONS = (
    ("Raw masks, all scores, classes averaged", ("map", "ap50", "ap75", "ar")),
    ("Raw masks, all scores, classes ignored", ("class_agnostic.ap", "class_agnostic.ap50")),
    ("Mean over images, classes ignored", ("pq", "aji", "aji_plus", "dice")),
    ("All images together, classes ignored", ("f1_50", "f_d")),
    (
        "Panoptic quality by averaging rule",
        ("panoptic.pooled", "bpq", "mpq", "mpq_monusac", "mpq_monusac_corrected", "mpq_plus"),
    ),
    ("Outlines of matched cells, their mean", ("boundary_f1", "hausdorff", "hausdorff95")),
    ("Predicted less true cells in an image", ("count.bias", "count.absolute")),
)


def tables(result: EvaluationResult) -> list[Table]:
    """The tables of a result, in order."""
    several = len(result.per_class) > 1
    found = [_overall(result)]
    if result.comparison is not None:
        found.append(_comparison(result, result.comparison))
    if several:
        found += [_per_class(result), _per_class_pq(result)]
    found.append(_errors(result.errors))
    if several:
        found.append(_confusion(result.errors))
    found.append(_where(result.errors))
    if result.n_images > 1:
        found.append(_worst(result))
    return found


def _overall(result: EvaluationResult) -> Table:
    """Every figure over all images, under a heading that says what it looks at; intervals if there is any."""
    table = Table(
        caption_justify="left",
        title=f"{result.n_images:,} images, {result.n_truth:,} true and {result.n_pred:,} predicted cells",
        title_justify="left",
    )
    table.add_column("Measure")
    table.add_column("Value", justify="right")
    sure = any(not math.isnan(interval.low) for interval in result.intervals.values())
    if sure:
        table.add_column("95 % interval", justify="right")
    measures = {measure.name: measure for measure in summarise(result)}
    several = len(result.per_class) > 1
    for heading, names in _SECTIONS:
        rows = [measures[name] for name in names if name in measures]
        if rows:
            table.add_row(heading if several else heading.partition(", classes")[0], style="italic")
        for row in rows:
            cells = [f"  {_label(row, result)}", _amount(row)]
            table.add_row(*cells, *([_interval(row.interval)] if sure else []))
        table.add_section()
    if result.best_threshold is not None and result.calibration is not None:
        table.add_row("Scores", style="italic")
        table.add_row("  Best threshold, for F1", _figure(result.best_threshold.score_thresh))
        table.add_row("  F1 there, on raw masks", _figure(result.best_threshold.f1))
        table.add_row("  Expected calibration error", _figure(result.calibration.ece))
    table.caption = "\n".join(_distinct(note for interval in result.intervals.values() for note in interval.notes))
    return table


def _label(measure: Measure, result: EvaluationResult) -> str:
    if measure.name in _WITH_LIMIT:
        return f"{measure.label}, maxDets {result.max_dets}"
    lengths = {"f_d": result.centroids.radius, "boundary_f1": result.boundary.tolerance}
    return f"{measure.label}, within {length_text(lengths[measure.name])}" if measure.name in lengths else measure.label


def _comparison(result: EvaluationResult, comparison: PairedComparison) -> Table:
    title = f"First: {escape(comparison.first)}\nSecond: {escape(comparison.second)}"
    table = _table(title, "Measure", "First", "Second", "Difference", "95 % interval", "p")
    for measure in summarise(result):
        if measure.name in comparison.measures:
            found = comparison.measures[measure.name]
            figures = (_figure(found.first), _figure(found.second), f"{found.difference.value:+.4f}")
            p = "–" if math.isnan(found.p_value) else f"{found.p_value:.4f}"
            table.add_row(measure.label, *figures, _interval(found.difference, "+.4f"), p)
    notes = _distinct(note for one in comparison.measures.values() for note in (*one.notes, *one.difference.notes))
    limit = f"maxDets {result.max_dets}; p: how often chance alone makes a difference as large"
    table.caption = "\n".join([limit, *notes])
    return table


def _distinct(notes: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(notes))


def _per_class(result: EvaluationResult) -> Table:
    title = f"By class (maxDets {result.max_dets})"
    table = _table(title, "Class", "AP", "AP50", "AP75", "AR", "True cells", "Predicted")
    for name, row in result.per_class.items():
        figures = (_figure(value) for value in (row.ap, row.ap50, row.ap75, row.ar))
        table.add_row(escape(name), *figures, f"{row.n_truth:,}", f"{row.n_pred:,}")
    return table


def _per_class_pq(result: EvaluationResult) -> Table:
    table = _table("By class, all images together", "Class", "PQ", "DQ", "SQ", "F_c", "Count", "Best threshold", "F1")
    for name, row in result.per_class.items():
        figures = [_figure(value) for value in (row.panoptic.pq, row.panoptic.dq, row.panoptic.sq, row.f_c)]
        count, best = row.count, row.best_threshold or BestThreshold(math.nan, math.nan)
        excess = f"{count.n_pred / count.n_truth - 1:+.1%}" if count.n_truth else "–"
        table.add_row(escape(name), *figures, excess, _figure(best.score_thresh), _figure(best.f1))
    return table


def _errors(errors: ErrorBreakdown) -> Table:
    table = _table(
        "What became of each cell (match: IoU > 0.5)", "Category", "True cells", "Share", "Predicted", "Share"
    )
    for category in dict.fromkeys((*errors.truth, *errors.pred)):
        cells = []
        for counts, n in ((errors.truth, errors.n_truth), (errors.pred, errors.n_pred)):
            known = category in counts
            cells += [f"{counts[category]:,}", _percent(counts[category] / n if n else math.nan)] if known else ["", ""]
        table.add_row(category.replace("_", " "), *cells)
    return table


def _confusion(errors: ErrorBreakdown) -> Table:
    labels = ["none", *(escape(label) for label in errors.confusion.labels[1:])]
    table = _table("True classes (rows) found as (columns)", "", *labels)
    for label, row in zip(labels, errors.confusion.counts, strict=True):
        table.add_row(label, *(f"{count:,}" for count in row))
    return table


def _where(errors: ErrorBreakdown) -> Table:
    table = _table("Where cells are found", "Cells", "True cells", "Recall", "Mean IoU", "Predicted", "Precision")
    for heading, strata in (
        (f"Diameter ({errors.unit})", errors.by_size),
        ("Spacing (diameters)", errors.by_crowding),
        (f"From the edge ({errors.unit})", errors.by_edge),
    ):
        table.add_row(heading, style="italic")
        for row in strata:
            figures = (f"{row.n_truth:,}", _figure(row.recall), _figure(row.mean_iou))
            table.add_row(_range(row), *figures, f"{row.n_pred:,}", _figure(row.precision))
        table.add_section()
    return table


def _worst(result: EvaluationResult) -> Table:
    table = _table("Worst images", "Image", "PQ", "F1", "True cells", "Predicted")
    by_name = {image.name: image for image in result.per_image}
    for name in result.errors.worst_images[:_N_WORST]:
        image = by_name[name]
        table.add_row(escape(name), _figure(image.pq), _figure(image.f1_50), f"{image.n_truth:,}", f"{image.n_pred:,}")
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _range(row: Stratum) -> str:
    if math.isinf(row.low):
        return f"  up to {row.high:g}" if row.high else "  0"
    return f"  over {row.low:g}" if math.isinf(row.high) else f"  {row.low:g} to {row.high:g}"


def _interval(interval: Interval | None, form: str = ".4f") -> str:
    if interval is None or math.isnan(interval.low):
        return ""
    return f"{interval.low:{form}} … {interval.high:{form}}"


def _amount(measure: Measure) -> str:
    if not measure.unit or math.isnan(measure.value):
        return _figure(measure.value)
    return f"{measure.value:{'+' if measure.name == 'count.bias' else ''}.2f} {measure.unit}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1%}"


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
