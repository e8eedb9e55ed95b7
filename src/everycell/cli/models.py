"""`everycell models`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def models() -> int:
    """List the models that come with everycell.

    F1 is at IoU 0.5 on the model's own validation images.
    """
    from everycell.models.checkpoint import read_card, shipped_models

    table = Table(
        "name", "classes", "trained on", "licence", "size", "F1", box=None, header_style="bold", pad_edge=False
    )
    for name, path in shipped_models().items():
        card = read_card(path)
        f1 = card.metrics.get("f1_50")
        table.add_row(
            name,
            ", ".join(card.class_names),
            card.data,
            card.licence,
            f"{path.stat().st_size / 1e6:.1f} MB",
            "" if f1 is None else f"{f1:.3f}",
        )
    if not table.rows:
        print("no models come with this installation; train one with `everycell train`")
        return 0
    console = Console(highlight=False)
    console.print(table)
    return 0
