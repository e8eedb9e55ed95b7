"""Networks, their weights, and the files they live in."""

from everycell.models.backbones import InitReport as InitReport
from everycell.models.backbones import count_parameters as count_parameters
from everycell.models.backbones import fold_norms as fold_norms
from everycell.models.backbones import init_backbone as init_backbone
from everycell.models.backbones import supports_bf16 as supports_bf16
from everycell.models.mask_rcnn import CellMaskRCNN as CellMaskRCNN
from everycell.models.roi_heads import Target as Target
from everycell.models.scale import network_zoom as network_zoom
from everycell.models.start import init_network as init_network

__all__ = [
    "CellMaskRCNN",
    "InitReport",
    "Target",
    "count_parameters",
    "fold_norms",
    "init_backbone",
    "init_network",
    "network_zoom",
    "supports_bf16",
]
