"""Which scale an image is brought to before the network."""

from everycell.config import ModelSettings


def network_zoom(settings: ModelSettings, size: tuple[int, int]) -> float:
    """Network px per image px, for an image of `size` (height, width).

    A fixed magnification, or torchvision's rule where `resize_short_px` is set: the short side becomes that long unless
    the long side would pass `resize_max_px`.
    """
    if settings.resize_short_px is None:
        return settings.magnification
    return min(settings.resize_short_px / min(size), settings.resize_max_px / max(size))
