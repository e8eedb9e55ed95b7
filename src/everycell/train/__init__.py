"""Training: presets, the loop, and what a run leaves behind."""

from everycell.train.job import Listener as Listener
from everycell.train.job import TrainJob as TrainJob
from everycell.train.loop import Trainer as Trainer
from everycell.train.presets import PRESETS as PRESETS
from everycell.train.presets import get_preset as get_preset

__all__ = ["PRESETS", "Listener", "TrainJob", "Trainer", "get_preset"]
