"""A run's history: one row an epoch, as CSV, curves and TensorBoard events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from everycell.files import atomic_write
from everycell.plot import plot_curves, save_png


class History:
    """Rows of one run, written anew after every epoch."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]] | None = None) -> None:
        # Imported here: TensorBoard takes a second to load and only training needs it.
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.rows = folder, list(rows or [])
        self.events = SummaryWriter(str(folder / "tensorboard"), purge_step=len(self.rows) + 1)

    def add(self, row: dict[str, Any]) -> None:
        """Add one epoch and write `history.csv`, `curves.png` and the TensorBoard events."""
        self.rows.append(row)
        for name, value in row.items():
            if name != "epoch" and value is not None:
                self.events.add_scalar(name, value, row["epoch"])
        self.events.flush()
        with atomic_write(self.folder / "history.csv") as path:
            pd.DataFrame(self.rows).to_csv(path, index=False)
        save_png(plot_curves(self.rows), self.folder / "curves.png")

    def close(self) -> None:
        """Close the TensorBoard file."""
        self.events.close()
