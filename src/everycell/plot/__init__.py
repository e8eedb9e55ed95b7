"""Pictures of images, cells and training runs; no global matplotlib state."""

from everycell.plot.ablation import plot_ablation as plot_ablation
from everycell.plot.brighten import brighten as brighten
from everycell.plot.contact_sheet import SheetPanel as SheetPanel
from everycell.plot.contact_sheet import contact_sheet as contact_sheet
from everycell.plot.curves import plot_curves as plot_curves
from everycell.plot.overlay import magnification as magnification
from everycell.plot.overlay import overlay as overlay
from everycell.plot.overlay_pyramid import OverlayPyramidWriter as OverlayPyramidWriter
from everycell.plot.panels import plot_panels as plot_panels
from everycell.plot.save import save_png as save_png

__all__ = [
    "OverlayPyramidWriter",
    "SheetPanel",
    "brighten",
    "contact_sheet",
    "magnification",
    "overlay",
    "plot_ablation",
    "plot_curves",
    "plot_panels",
    "save_png",
]
