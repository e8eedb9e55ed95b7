"""What the pages share: one HTML file that needs no other, no network and no script."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from everycell import __version__
from everycell.evaluate import EvaluationResult
from everycell.metrics import Category, Interval
from everycell.report.pictures import OUTCOMES
from everycell.structures.colors import class_color

_MINUS, _NBSP = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
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


def render_page(template: str, **values: object) -> str:
    """A page from the template of that name."""
    environment = Environment(
        loader=PackageLoader("everycell.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "amount": _amount,
        "between": _between,
        "change": lambda count: f"{count:+,}".replace("-", _MINUS),
        "count": "{:,}".format,
        "figure": _figure,
        "share": _share,
        "short": _short_path,
        "signed": _signed,
        "span": _span,
        "words": lambda label: label.replace("_", " "),
    }
    environment.globals |= {
        "color": _color,
        "isnan": math.isnan,
        "meanings": [(category.label, meaning) for category, meaning in _MEANINGS.items()],
        "outcomes": OUTCOMES,
        "version": __version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return environment.get_template(template).render(values)


def weakest_class(result: EvaluationResult | None) -> tuple[str, float] | None:
    """(name, AP50) of the class with the lowest AP50 where several have one."""
    classes = result.per_class.items() if result else ()
    known = sorted((row.ap50, name) for name, row in classes if not math.isnan(row.ap50))
    return (known[0][1], known[0][0]) if len(known) > 1 else None


def _figure(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", _MINUS)


def _amount(value: float, unit: str) -> str:
    if math.isnan(value):
        return "–"
    number = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{number}{_NBSP}{unit}".replace("-", _MINUS)


def _between(interval: Interval | None, signed: bool = False) -> str:
    """Both ends of an interval; "" without."""
    if interval is None or math.isnan(interval.low):
        return ""
    ends = (_signed(end) if signed else f"{end:.2f}" for end in (interval.low, interval.high))
    return f"[{', '.join(ends)}]"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}{_NBSP}%" if whole else "–"


def _short_path(path: str | Path) -> str:
    """The last two names of a path, enough to know it by."""
    return "/".join(Path(path).parts[-2:])


def _span(low: float, high: float) -> str:
    """Bounds of a stratum whose values are 0 or more: low < value <= high."""
    if math.isinf(high):
        return "all" if math.isinf(low) else f"over {low:.3g}"
    if high == 0:
        return "0"
    return f"up to {high:.3g}" if math.isinf(low) else f"{low:.3g} to {high:.3g}"


def _color(class_id: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*class_color(class_id))
