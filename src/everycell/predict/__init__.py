"""From an image to cells."""

from everycell.predict.loading import choose_device as choose_device
from everycell.predict.loading import load_model as load_model
from everycell.predict.predictor import Model as Model

__all__ = ["Model", "choose_device", "load_model"]
