"""From an image to cells."""

from everycell.predict.predictor import Model as Model
from everycell.predict.predictor import choose_device as choose_device
from everycell.predict.predictor import load_model as load_model

__all__ = ["Model", "choose_device", "load_model"]
