"""`Model`: a network with its card, from an image to `Instances`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everycell.errors import ConfigError
from everycell.io import to_image
from everycell.models import CellMaskRCNN, fold_norms, network_zoom, supports_bf16
from everycell.models.checkpoint import ModelCard, file_sha256, find_model, load_network
from everycell.models.mask_rcnn import STRIDE
from everycell.predict.covered import drop_covered
from everycell.predict.masks import masks_to_crops
from everycell.predict.stitch import centroids, drop_seam_duplicates
from everycell.predict.tiling import Tile, tile_image
from everycell.structures import Image, Instances, MaskCrops
from everycell.transforms import input_range, stretch, zoom_image

_TILE_NETWORK_PX = 1536
_MIN_HALO_PX = 32
_SEAM_NETWORK_PX = 4  # how far two tiles may differ on a cell's centroid without losing the cell
_MAX_ZOOM = 16.0


class Model:
    """A network ready to predict.

    Attributes:
        network: the Mask R-CNN, in evaluation mode.
        card: what the model is.
        device: where it runs.
        bf16: whether convolutions run in bfloat16.
        sha256: of the model file, "" for a network that came from no file.
    """

    def __init__(
        self, network: CellMaskRCNN, card: ModelCard, device: torch.device, *, bf16: bool, sha256: str = ""
    ) -> None:
        self.network, self.card, self.device, self.bf16, self.sha256 = network, card, device, bf16, sha256

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
    ) -> Instances:
        """Find and outline every cell.

        Args:
            image: an `Image`, or an array [H, W] or [H, W, C] as `everycell.io.to_image` takes it.
            mpp: µm per px, when the image does not say it or says it wrongly.
            diameter: typical cell diameter, px, in place of `mpp`.
            score_thresh: keep cells scoring at least this; the card's own threshold when None.

        Returns:
            Cells in the pixels of the image, best score first; `notes` says what a reader must know.

        Raises:
            ConfigError: `mpp`, `diameter` or `score_thresh` is out of range.
            DataError: the array is no image.
        """
        image = image if isinstance(image, Image) else to_image(image)
        image = image if mpp is None else replace(image, mpp=mpp)
        thresh = self.card.score_thresh if score_thresh is None else score_thresh
        factor, notes = self.zoom(image, diameter)
        _check_range("score_thresh", thresh, 0, 1)
        found = self._predict_tiles(image, factor, thresh)
        return replace(found, notes=(*notes, *found.notes), mpp=image.mpp, class_names=self.class_names)

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

    def zoom(self, image: Image, diameter: float | None) -> tuple[float, list[str]]:
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

    def tiles(self, size: tuple[int, int], factor: float) -> list[Tile]:
        """How an image of `size` (height, width), with `factor` network px per image px, is cut for the network."""
        if self.card.settings.resize_short_px is not None:
            return tile_image(size, max(size), 0)
        largest = self.card.diameter_px[2] * self.card.settings.magnification if self.card.diameter_px else 64.0
        # Windows begin on whole strides, as cores do: the network then sees every cell on the whole image's grid.
        stride = max(1, round(STRIDE / factor))
        halo = math.ceil(max(_MIN_HALO_PX, min(largest, _TILE_NETWORK_PX / 4)) / factor / stride) * stride
        tile = max(int(_TILE_NETWORK_PX / factor), 2 * halo + stride)
        return tile_image(size, tile, halo, multiple=stride)

    def _predict_tiles(self, image: Image, factor: float, thresh: float) -> Instances:
        limits = input_range(image.pixels, self.card.settings.normalize)
        tiles = self.tiles(image.size, factor)
        parts = [self._predict_tile(image, tile, limits, factor, thresh) for tile in tiles]
        found = _join(parts, image.size)
        if len(tiles) > 1:
            numbers = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            found = found.select(drop_seam_duplicates(found.masks, found.scores, numbers))
        max_covered = self.card.settings.max_covered
        if max_covered is not None:
            return found.select(drop_covered(found.masks, found.scores, image.size, max_covered))
        return found.select(np.argsort(-found.scores, kind="stable"))

    def _predict_tile(
        self, image: Image, tile: Tile, limits: tuple[float, float], factor: float, thresh: float
    ) -> Instances:
        x0, y0, x1, y1 = tile.window
        pixels = torch.from_numpy(stretch(image.pixels[y0:y1, x0:x1], limits)).permute(2, 0, 1)
        scaled = zoom_image(pixels, factor)
        raw = self._run(scaled)
        keep = raw["scores"] >= thresh
        # Both axes have their own factor: sides are rounded to whole network pixels.
        ratios = torch.tensor([(x1 - x0) / scaled.shape[2], (y1 - y0) / scaled.shape[1]] * 2)
        boxes = (raw["boxes"][keep] * ratios).numpy()
        size = (y1 - y0, x1 - x0)
        masks = masks_to_crops(raw["masks"][keep, 0].numpy(), boxes, size, aligned=self.card.settings.aligned)
        masks = masks.shifted(x0, y0)
        capped = len(raw["scores"]) >= self.card.settings.detections_per_image
        cells = Instances(
            boxes=(boxes + np.array([x0, y0, x0, y0])).astype(np.float32),
            scores=raw["scores"][keep].numpy(),
            class_ids=raw["labels"][keep].numpy(),
            masks=masks,
            image_size=image.size,
            notes=(_cap_note(tile, self.card.settings.detections_per_image),) if capped else (),
        )
        owned = [tile.owns(x, y, _SEAM_NETWORK_PX / factor) for x, y in centroids(masks).tolist()]
        return cells.select((masks.areas() > 0) & np.array(owned, np.bool_))

    def _run(self, scaled: Tensor) -> dict[str, Tensor]:
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            detections, _ = self.network([scaled.to(self.device)])
        return {
            key: value.float().cpu() if value.is_floating_point() else value.cpu()
            for key, value in detections[0].items()
        }


def _cap_note(tile: Tile, cap: int) -> str:
    return f"detection cap of {cap} reached in window {tile.window} (x0, y0, x1, y1): cells may be missing there"


def _join(parts: Sequence[Instances], image_size: tuple[int, int]) -> Instances:
    masks = MaskCrops(
        np.concatenate([part.masks.boxes for part in parts]), np.concatenate([part.masks.bits for part in parts])
    )
    return Instances(
        boxes=np.concatenate([part.boxes for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        class_ids=np.concatenate([part.class_ids for part in parts]),
        masks=masks,
        image_size=image_size,
        notes=tuple(note for part in parts for note in part.notes),
    )


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} must lie in {low:g} … {high:g}, got {value:g}")


def choose_device(name: str) -> torch.device:
    """The device of a `--device` value: auto takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ConfigError: the device is unknown or not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if there[device]))
    if not there.get(name, False):
        raise ConfigError(
            f"device must be auto or one of {', '.join(d for d in there if there[d])} on this machine, got {name!r}"
        )
    return torch.device(name)


def load_model(name_or_path: str | Path, *, device: str = "auto", bf16: bool = True) -> Model:
    """Load a shipped model by name, or any everycell model file.

    Args:
        name_or_path: a name that `everycell models` lists, or a `.safetensors` file.
        device: auto, cpu, cuda or mps.
        bf16: run convolutions in bfloat16 where the device is faster with it.

    Raises:
        ModelError: the model is unknown, damaged or not everycell's.
        ConfigError: the device is not there.
    """
    place = choose_device(device)
    path = find_model(name_or_path)
    network, card = load_network(path)
    fold_norms(network.backbone.body)
    network = network.to(place).to(memory_format=torch.channels_last)
    return Model(network, card, place, bf16=bf16 and supports_bf16(place), sha256=file_sha256(path))
