"""`Model`: a network with its card, from an image to `Instances`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from torch import Tensor

from everycell import __version__
from everycell.errors import ConfigError, ModelError
from everycell.io import ImageSource, open_source, to_image
from everycell.models import CellMaskRCNN, network_zoom
from everycell.models.checkpoint import ModelCard
from everycell.models.mask_rcnn import STRIDE
from everycell.models.roi_heads import Detections
from everycell.predict.background import BACKGROUND_SHARE
from everycell.predict.caps import keep_believed, leave_out_below
from everycell.predict.detector import Rules
from everycell.predict.engine import TiledPrediction
from everycell.predict.memory import keep_large_blocks_apart, return_freed_memory
from everycell.predict.network import NetworkDetector
from everycell.predict.stitch import centroids
from everycell.predict.store import FolderStore
from everycell.predict.tiling import Tiling
from everycell.predict.views import VIEWS
from everycell.structures import Image, Instances
from everycell.transforms import contrast_range
from everycell.transforms.normalize import FULL_RANGE

_TILE_NETWORK_PX = 1536
_MIN_HALO_PX = 32
_SEAM_NETWORK_PX = 4  # how far two tiles may differ on a cell's centroid without losing the cell
_MAX_ZOOM = 16.0
_LARGE_PASS_PX = 2**20


@dataclass(frozen=True)
class PredictOptions:
    """How to predict one image.

    Attributes:
        diameter: typical cell diameter, px, in place of µm/px.
        score_thresh: keep cells scoring at least this; the card's own threshold when None.
        views: test-time augmentation, a name in `everycell.predict.views.VIEWS`.
        within: only cells whose centroid lies in this area, px of the image at full resolution; None is everywhere.
        skip_background: of an image of several tiles, leave out those that show nothing.
    """

    diameter: float | None = None
    score_thresh: float | None = None
    views: str = "none"
    within: shapely.Geometry | None = None
    skip_background: bool = True


class Model:
    """A network ready to predict.

    Attributes:
        card: what the model is.
        device: where it runs.
        bf16: whether convolutions run in bfloat16.
        sha256: of the model file, "" for a network that came from no file.
        path: of the model file; other processes load it again from there.
    """

    def __init__(
        self,
        network: CellMaskRCNN | None,
        card: ModelCard,
        device: torch.device,
        *,
        bf16: bool,
        sha256: str = "",
        path: Path | None = None,
    ) -> None:
        self._network, self.card, self.device, self.bf16, self.sha256 = network, card, device, bf16, sha256
        self.path = path
        keep_large_blocks_apart()
        # One thread for all passes: each thread that runs a network keeps memory and OpenMP workers of its own.
        self._network_thread = ThreadPoolExecutor(1, "network")

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[Path, str, bool, str]]:
        if self.path is None:
            raise ConfigError(f"model {self.name!r} came from no file; save it before other processes can use it")
        from everycell.predict.loading import load_again  # which needs this module

        return load_again, (self.path.absolute(), self.device.type, self.bf16, self.sha256)

    @property
    def network(self) -> CellMaskRCNN:
        """The Mask R-CNN, in evaluation mode.

        Raises:
            ModelError: the model was exported: what is left of its network can only predict.
        """
        if self._network is None:
            raise ModelError(f"{self.path}: an exported model can only predict; use its .safetensors file for this")
        return self._network

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of classes 1 … K."""
        return self.card.class_names

    def predict(
        self,
        image: Image | NDArray[Any],
        *,
        mpp: float | None = None,
        diameter: float | None = None,
        score_thresh: float | None = None,
        views: str = "none",
    ) -> Instances:
        """Find and outline every cell of an image in memory.

        Args:
            image: an `Image`, or an array [H, W] or [H, W, C] as `everycell.io.to_image` takes it.
            mpp: µm per px, when the image does not say it or says it wrongly.
            diameter: typical cell diameter, px, in place of `mpp`.
            score_thresh: keep cells scoring at least this; the card's own threshold when None.
            views: test-time augmentation, a name in `everycell.predict.views.VIEWS`.

        Returns:
            Cells in the pixels of the image, best score first; `notes` says what a reader must know.

        Raises:
            ConfigError: `mpp`, `diameter`, `score_thresh` or `views` is out of range.
            DataError: the array is no image.
        """
        image = image if isinstance(image, Image) else to_image(image)
        image = image if mpp is None else replace(image, mpp=mpp)
        options = PredictOptions(diameter, score_thresh, views)
        with open_source(image) as source:
            tiles = self.tiled(source, options)
            tiles.run()
            found = tiles.cells()
        return found.select(np.argsort(-found.scores, kind="stable"))

    def tiled(
        self,
        source: ImageSource,
        options: PredictOptions = PredictOptions(),
        *,
        work: Path | None = None,
        source_key: Mapping[str, Any] = MappingProxyType({}),
    ) -> TiledPrediction:
        """Prepare the prediction of an image of any size.

        Args:
            source: the image; its µm/px decide about the scale.
            options: how to predict.
            work: folder where finished tiles are kept, so that a killed run goes on; they stay in memory when None, and
                where one tile is all.
            source_key: what tells this image from others, fit for JSON, so that a run does not go on with the tiles of
                another.

        Raises:
            ConfigError: a setting is out of range.
            OutputError: `work` cannot be used, or holds tiles of another run.
        """
        factor, notes = self.zoom(source, options.diameter)
        thresh = self.card.score_thresh if options.score_thresh is None else options.score_thresh
        _check_range("score_thresh", thresh, 0, 1)
        if options.views not in VIEWS:
            raise ConfigError(f"views must be one of {', '.join(VIEWS)}, got {options.views!r}")
        tiling = self.tiling(source.size, factor)
        skips = options.skip_background and len(tiling.tiles) > 1
        stretched = self.card.settings.normalize == "percentile"
        contrast = contrast_range(source.overview()) if stretched or skips else FULL_RANGE
        detector = NetworkDetector(self, factor, thresh, contrast if stretched else FULL_RANGE, VIEWS[options.views])
        rules = Rules(
            tiling,
            seam_px=math.ceil(_SEAM_NETWORK_PX / factor),
            max_covered=self.card.settings.max_covered,
            within=options.within,
            background_levels=BACKGROUND_SHARE * (contrast[1] - contrast[0]) if skips else None,
        )
        store = None
        if work is not None and len(rules.tiling.tiles) > 1:
            store = FolderStore(work, source.size, {**source_key, **self._plan(detector, rules)})
        return TiledPrediction(source, detector, rules, store=store, notes=tuple(notes))

    def _plan(self, detector: NetworkDetector, rules: Rules) -> dict[str, Any]:
        """Everything but the image that decides about a tile's cells; the device may change between runs."""
        return {
            "everycell": __version__,
            "model": [self.name, self.sha256, self.bf16],
            "detector": [detector.factor, detector.thresh, detector.limits, [astuple(view) for view in detector.views]],
            "tiling": [rules.tiling.tile_px, rules.tiling.halo_px, rules.tiling.multiple, rules.seam_px],
            "background_levels": rules.background_levels,
        }

    def predict_instances(
        self, image: Image | NDArray[Any], **options: Any
    ) -> tuple[NDArray[np.uint32], dict[str, Any]]:
        """`predict` in the form that StarDist users know: (label image, details).

        Details hold `prob` float32 [N], `points` float64 [N, 2] (row and column of the centroid, px, the first pixel's
        centre at 0) and `class_id`.
        """
        cells = self.predict(image, **options)
        points = centroids(cells.masks)[:, ::-1] - 0.5
        return cells.to_labels(), {"prob": cells.scores, "points": points, "class_id": cells.class_ids}

    def zoom(self, image: Image | ImageSource, diameter: float | None) -> tuple[float, list[str]]:
        """Network px per image px, and what to say about it."""
        factor = network_zoom(self.card.settings, image.size)
        if image.mpp is not None:
            _check_range("mpp", image.mpp, 1e-3, 1e3)
        if diameter is not None:
            _check_range("diameter", diameter, 1, 1e4)
            if self.card.diameter_px is None:
                raise ConfigError(
                    f"model {self.name!r} does not know its cells' diameter; give --mpp instead of --diameter"
                )
            factor *= self.card.diameter_px[1] / diameter
        elif self.card.mpp is not None and image.mpp is not None:
            factor *= image.mpp / self.card.mpp
        elif self.card.mpp is not None:
            note = (
                f"scale unknown: taken as the model's {self.card.mpp:g} µm/px; give --mpp or --diameter if it differs"
            )
            return min(factor, _MAX_ZOOM), [note]
        return min(factor, _MAX_ZOOM), []

    def tiling(self, size: tuple[int, int], factor: float) -> Tiling:
        """How an image of `size` (height, width), with `factor` network px per image px, is cut for the network."""
        if self.card.settings.resize_short_px is not None:
            return Tiling(size, max(size), 0, multiple=max(size))
        largest = self.card.diameter_px[2] * self.card.settings.magnification if self.card.diameter_px else 64.0
        # Windows begin on whole strides, as cores do: the network then sees every cell on the whole image's grid.
        stride = max(1, round(STRIDE / factor))
        halo = math.ceil(max(_MIN_HALO_PX, min(largest, _TILE_NETWORK_PX / 4)) / factor / stride) * stride
        tile = max(int(_TILE_NETWORK_PX / factor), 2 * halo + stride)
        return Tiling(size, tile, halo, multiple=stride)

    def network_input(self, image: Image) -> Tensor:
        """An image small enough for one tile as the network sees it, float32 [3, h, w] in [0, 1]."""
        with open_source(image) as source:
            tiles = self.tiled(source)
            [tile] = tiles.rules.tiling.tiles
            assert isinstance(tiles.detector, NetworkDetector)
            return tiles.detector.network_pixels(source, tile)

    def look(self, scaled: Tensor, thresh: float) -> tuple[dict[str, Tensor], str]:
        """One forward pass, in the thread of this model's network.

        Args:
            scaled: float32 [3, h, w] in [0, 1], at network scale.
            thresh: least score.

        Returns:
            Boxes (network px), scores, labels and masks on the CPU; and the limit that was reached, "" for none.
        """
        return self._network_thread.submit(self._look, scaled, thresh).result()

    def _look(self, scaled: Tensor, thresh: float) -> tuple[dict[str, Tensor], str]:
        found = self._forward(scaled, thresh)
        if scaled[0].numel() >= _LARGE_PASS_PX:
            return_freed_memory()
        keep, limit = found["scores"] >= thresh, self.card.settings.detections_per_image
        cap = f"cap of {limit} detections" if keep.sum() >= limit else ""
        return {
            key: value[keep].float().cpu() if value.is_floating_point() else value[keep].cpu()
            for key, value in found.items()
        }, cap

    def _forward(self, scaled: Tensor, thresh: float) -> Detections:
        """What the network finds; what scores less than `thresh` may be left out."""
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16),
            keep_believed(self.network.rpn),
            leave_out_below(self.network.roi_heads, thresh),
        ):
            detections, _ = self.network([scaled.to(self.device)])
        found: Detections = detections[0]
        return found


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} must lie in {low:g} … {high:g}, got {value:g}")
