"""The values that flow between rooms: images, cells, samples."""

from everycell.structures.crops import MaskCrops as MaskCrops
from everycell.structures.image import Image as Image
from everycell.structures.instances import Instances as Instances
from everycell.structures.sample import Sample as Sample

__all__ = ["Image", "Instances", "MaskCrops", "Sample"]
