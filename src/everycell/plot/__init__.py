"""Pictures of images, cells and training runs; no global matplotlib state."""

from everycell.plot.brighten import brighten as brighten
from everycell.plot.curves import plot_curves as plot_curves
from everycell.plot.overlay import magnification as magnification
from everycell.plot.overlay import overlay as overlay
from everycell.plot.panels import plot_panels as plot_panels
from everycell.plot.save import save_png as save_png

__all__ = ["brighten", "magnification", "overlay", "plot_curves", "plot_panels", "save_png"]
