"""Image files and their pixel sizes."""

from everycell.io.images import read_image as read_image
from everycell.io.images import to_image as to_image
from everycell.io.inputs import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from everycell.io.inputs import find_images as find_images
from everycell.io.inputs import image_stem as image_stem
from everycell.io.inputs import is_image_name as is_image_name
from everycell.io.pixel_size import believable_mpp as believable_mpp
from everycell.io.raster import Raster as Raster
from everycell.io.raster import read_raster as read_raster
from everycell.io.sources import ImageSource as ImageSource
from everycell.io.sources import open_source as open_source

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageSource",
    "Raster",
    "believable_mpp",
    "find_images",
    "image_stem",
    "is_image_name",
    "open_source",
    "read_image",
    "read_raster",
    "to_image",
]
