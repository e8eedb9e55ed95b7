"""What `predict` can be told, on the command line and from Python, and options that commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cyclopts import Group, Parameter, Token, validators

Format = Literal[
    "labels", "zarr", "coco", "geojson", "geojson.gz", "rois", "table", "anndata", "overlay", "leaderboard"
]
_KNOWN: tuple[Format, ...] = get_args(Format)
FORMATS: tuple[Format, ...] = ("labels", "coco", "geojson", "table", "overlay")
"""Those that are written unless others are asked for."""

ViewsName = Literal["none", "flips", "turns", "scales", "all"]


def _formats(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    given = [part.strip() for token in tokens for part in token.value.split(",")]
    for part in given:
        if part not in _KNOWN:
            raise ValueError(f"Unknown format {part!r}; known are {', '.join(_KNOWN)}.")
    return tuple(kind for kind in _KNOWN if kind in given)


def _channels(_: Any, tokens: Sequence[Token]) -> tuple[int, ...]:
    text = ",".join(token.value for token in tokens)
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"Expected channel numbers such as 1,2, got {text!r}.") from None


def _class_names(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    names = tuple(name.strip() for token in tokens for name in token.value.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(f"Expected distinct class names such as tumour,stroma, got {','.join(names)!r}.")
    return names


ClassNames = Annotated[
    tuple[str, ...] | None, Parameter(converter=_class_names, n_tokens=1, negative="", metavar="LIST")
]
"""Names of classes 1, 2 and so on, separated by commas."""

_ONE_SCALE = Group(validator=validators.mutually_exclusive, show=False)
_POSITIVE = validators.Number(gt=0, lt=float("inf"))


@dataclass(frozen=True)
class PredictSettings:
    """What decides the cells of an image, and what is written about them.

    Attributes:
        model: name of a model (`everycell models` lists them), or a .safetensors file.
        formats: what to write, separated by commas.
        mpp: micrometres per pixel, where the image files do not say it, or say it wrongly.
        diameter: typical cell diameter in pixels, where micrometres per pixel are unknown.
        score_thresh: keep cells that score at least this; by default the model's own threshold.
        channels: channels that become red, green and blue, counted from 1, separated by commas.
        within: only cells inside the areas drawn in this GeoJSON file, or in <image>.geojson of this folder.
        views: look at the image flipped, turned or at other scales as well, and fuse what is found.
        skip_background: of an image in several tiles, leave out those that show nothing.
        device: where the network runs; auto takes a GPU if there is one.
        bf16: compute in bfloat16 where the processor is fast at it.
    """

    model: Annotated[str, Parameter(name=["--model", "-m"])] = "nuclei"
    formats: Annotated[
        tuple[Format, ...],
        Parameter(converter=_formats, n_tokens=1, negative="", metavar="LIST", show_default=",".join),
    ] = FORMATS
    mpp: Annotated[float | None, Parameter(group=_ONE_SCALE, validator=_POSITIVE)] = None
    diameter: Annotated[float | None, Parameter(group=_ONE_SCALE, validator=_POSITIVE, metavar="PX")] = None
    score_thresh: Annotated[float | None, Parameter(validator=validators.Number(gte=0, lte=1))] = None
    channels: Annotated[
        tuple[int, ...] | None, Parameter(converter=_channels, n_tokens=1, negative="", metavar="LIST")
    ] = None
    within: Annotated[Path | None, Parameter(metavar="FILE|DIR")] = None
    views: ViewsName = "none"
    skip_background: bool = True
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    bf16: bool = True
