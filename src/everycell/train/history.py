"""A run's history: one row an epoch, as CSV, curves and TensorBoard events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from everycell.files import atomic_write
from everycell.plot import plot_curves, save_png


class History:
    """Rows of one run, written anew after every epoch.

    Starting from the rows of finished epochs makes all files tell of these alone, whatever a killed process left.
    """

    def __init__(self, folder: Path, rows: list[dict[str, Any]] | None = None) -> None:
        # Imported here: TensorBoard takes a second to load and only training needs it.
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.rows = folder, list(rows or [])
        for path in (folder / "tensorboard").glob("events.out.tfevents.*"):
            path.unlink()
        self.events = SummaryWriter(str(folder / "tensorboard"))
        for row in self.rows:
            self._log(row)
        if self.rows:
            self._write()

    def add(self, row: dict[str, Any]) -> None:
        """Add one epoch and write `history.csv`, `curves.png` and the TensorBoard events."""
        self.rows.append(row)
        self._log(row)
        self._write()

    def close(self) -> None:
        """Close the TensorBoard file."""
        self.events.close()

    def _log(self, row: dict[str, Any]) -> None:
        for name, value in row.items():
            if name != "epoch" and value is not None:
                self.events.add_scalar(name, value, row["epoch"])

    def _write(self) -> None:
        self.events.flush()
        with atomic_write(self.folder / "history.csv") as path:
            pd.DataFrame(self.rows).to_csv(path, index=False)
        save_png(plot_curves(self.rows), self.folder / "curves.png")
