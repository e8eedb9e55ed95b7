"""A run folder read back: whatever of it is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from everycell.config import read_toml
from everycell.errors import DataError
from everycell.models.checkpoint import ModelCard, read_card

_MODELS = ("best.safetensors", "last.safetensors")
_MARKS = ("settings.toml", "history.csv", *_MODELS)  # without any of these a folder is none of a run


@dataclass(frozen=True)
class Run:
    """What a training run left behind; parts that are missing are empty or None.

    Attributes:
        path: the folder.
        settings: tables of `settings.toml`.
        history: one row for each finished epoch, with at least `epoch`, `train_loss` and `val_loss`.
        split: image → "train" or "validation".
        record: `run.json`.
        model: the best model's file, or the last one's where no validation has chosen a best.
        card: that model's card.
    """

    path: Path
    settings: dict[str, Any]
    history: pd.DataFrame
    split: dict[str, str]
    record: dict[str, Any]
    model: Path | None
    card: ModelCard | None

    def recorded(self, *keys: str) -> Any:
        """`record[key][key] …`, None where there is no such fact."""
        return _find(self.record, keys)

    def setting(self, table: str, key: str) -> Any:
        """A value of `settings.toml`, None where there is no such setting."""
        return _find(self.settings, (table, key))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of classes 1 … K; empty when neither model nor record names them."""
        return self.card.class_names if self.card else tuple(self.recorded("class_names") or ())

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the data lay in training; empty when that was not recorded."""
        return tuple(Path(folder) for folder in self.recorded("data", "folders") or ())

    @property
    def val_names(self) -> tuple[str, ...]:
        """Validation images."""
        return tuple(name for name, side in self.split.items() if side == "validation")

    @property
    def best_row(self) -> int | None:
        """Position in `history` of the epoch with the best validation mAP, None when there was no mAP."""
        scores = self.history.get("val_map", pd.Series(dtype=float)).to_numpy(float)
        return int(np.nanargmax(scores)) if np.isfinite(scores).any() else None

    def value(self, column: str, row: int | None) -> float:
        """`history[column]` in a row counted from 0, or from the end with -1; NaN where there is none."""
        if row is None or column not in self.history or self.history.empty:
            return float("nan")
        return float(self.history[column].iloc[row])

    def gap(self, row: int | None) -> float:
        """Validation less training loss in a row of the history."""
        return self.value("val_loss", row) - self.value("train_loss", row)


def read_run(path: Path) -> Run:
    """Read the run folder `path`.

    Raises:
        DataError: it is no run folder, or one of its tables is damaged.
        ConfigError: its settings are no TOML.
        ModelError: its model is damaged.
    """
    if not any((path / name).is_file() for name in _MARKS):
        raise DataError(
            f"{path} is no run folder: expected any of {', '.join(_MARKS)} in it; "
            "give the folder that `everycell train -o` wrote"
        )
    model = next((path / name for name in _MODELS if (path / name).is_file()), None)
    split = _read_table(path / "split.csv", ("image", "side"), dtype=str)
    history = _read_table(path / "history.csv", ("epoch", "train_loss", "val_loss"))
    return Run(
        path=path,
        settings=read_toml(path / "settings.toml") if (path / "settings.toml").is_file() else {},
        history=history,
        split=dict(zip(split["image"], split["side"], strict=True)),
        record=_read_record(path / "run.json"),
        model=model,
        card=read_card(model) if model else None,
    )


def _find(tree: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _read_table(path: Path, columns: tuple[str, ...], dtype: type | None = None) -> pd.DataFrame:
    """A CSV file; no rows where it is missing."""
    if not path.is_file():
        return pd.DataFrame(columns=list(columns))
    try:
        # "NA" is an ordinary name of an image.
        table = pd.read_csv(path, dtype=dtype, keep_default_na=dtype is None)
        if dtype is None:
            table = table.astype(float)
    except (ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: not a table as `everycell train` writes it ({reason}); restore it") from None
    if missing := set(columns) - set(table):
        raise DataError(
            f"{path}: expected the columns {', '.join(columns)}, got {', '.join(map(str, table))}; "
            f"{', '.join(sorted(missing))} missing: restore the file"
        )
    return table


def _read_record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: not JSON ({error}); restore or remove it") from None
    if not isinstance(record, dict):
        raise DataError(f"{path}: expected an object with facts about the run; restore or remove it")
    return record
