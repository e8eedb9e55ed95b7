"""`everycell ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from everycell.cli.train import ProgressListener, join_duplicates, open_folders
from everycell.predict import choose_device
from everycell.train import PRESETS, TrainJob
from everycell.train.ablation import Ablation, AblationSettings
from everycell.train.ablation_table import write_ablation

_CPU = {"steps": 400, "crop_px": 256}


def ablate(
    data: Annotated[list[Path], Parameter(metavar="DATA")],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], metavar="OUT")],
    rows: Annotated[list[str] | None, Parameter(metavar="ROW", consume_multiple=True)] = None,
    steps: int | None = None,
    crop_px: int | None = None,
    seeds: int = 1,
    val_fraction: float = 0.2,
    init_weights: Annotated[str, Parameter(metavar="FILE")] = "imagenet",
    limit: Annotated[int | None, Parameter(metavar="N")] = None,
    device: str = "auto",
    bf16: bool = True,
    data_name: str = "",
) -> None:
    """Train the report's eight configurations alike and compare them.

    An ablation that was interrupted goes on when the same command is given again; more rows or seeds may be asked for
    later. The tables are written anew after every run.

    Args:
        data: folders that directly hold the samples; several are joined.
        output: folder for runs and tables.
        rows: only these rows, for example baseline anchors; all eight when left out.
        steps: optimizer steps of every row; 1500, or 400 on a CPU.
        crop_px: train on crops of this side at the image's own scale; 0 for whole images with the short side at 512 px,
            as the report does. 0, or 256 on a CPU.
        seeds: train every row this many times.
        val_fraction: share of images held out.
        init_weights: backbone weights: imagenet (downloaded), random, or a local .safetensors file, whole or partial.
        limit: use only the first N images.
        device: auto, cpu, cuda or mps.
        bf16: bfloat16 convolutions where the device is faster with them.
        data_name: name of the data in the tables; the folders' names when empty.
    """
    chosen = choose_device(device)
    default = _CPU if chosen.type == "cpu" else {"steps": 1500, "crop_px": 0}
    values = {
        "steps": default["steps"] if steps is None else steps,
        "crop_px": (default["crop_px"] if crop_px is None else crop_px) or None,
        "seeds": seeds,
        "val_fraction": val_fraction,
        "bf16": bf16,
        "init_weights": init_weights,
    }
    settings = AblationSettings.parse(values, "ablate")
    console = Console(stderr=True)
    dataset = open_folders(data, limit)
    with console.status("reading images"):
        groups = join_duplicates(dataset, console)
    job = TrainJob(
        dataset=dataset,
        settings=PRESETS["baseline"],
        out=output,
        groups=groups,
        data_name=data_name or ", ".join(path.resolve().name for path in data),
        device=device,
        folders=data,
    )
    ablation = Ablation(job, settings, output, rows or ())
    runs = ablation.runs()
    for number, run in enumerate(runs, start=1):
        if ablation.is_done(run):
            continue
        console.print(f"run {number} of {len(runs)}: {run.row}, seed {run.seed}", highlight=False)
        with ProgressListener(console) as listener:
            ablation.train(run, listener)
        write_ablation(ablation, chosen)
    table, *_ = write_ablation(ablation, chosen)
    print(table.read_text(encoding="utf-8"))
    print(f"written: {table}")
