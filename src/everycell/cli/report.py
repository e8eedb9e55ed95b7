"""`everycell report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from rich.console import Console
from rich.progress import track

from everycell.errors import DataError
from everycell.files import write_bytes


def report(
    run: Annotated[Path, Parameter(metavar="RUN")],
    /,
    *,
    output: Annotated[
        Path, Parameter(name=["--output", "-o"], metavar="FILE.html", validator=validators.Path(ext="html"))
    ],
    data: Annotated[list[Path] | None, Parameter(metavar="DATA", negative="")] = None,
    limit: Annotated[int, Parameter(metavar="N", validator=validators.Number(gte=1))] = 24,
    device: str = "auto",
) -> None:
    """Write a run's report as one HTML page.

    Args:
        run: folder that `everycell train` wrote.
        output: the page, a .html file.
        data: where the run's data lies now, if it was moved; give it once for each folder.
        limit: predict at most the first N validation images.
        device: auto, cpu, cuda or mps.
    """
    # Imported here, so that help and wrong usage stay fast.
    from everycell.report import Examination, read_run, render

    folder = read_run(run)
    console = Console(stderr=True)
    findings, note = None, ""
    try:
        examination = Examination(folder, data or (), limit=limit, device=device)
    except DataError as error:
        if data and folder.model:
            raise
        note = str(error)
        console.print(f"everycell: note: no pictures: {note}", markup=False, highlight=False, soft_wrap=True)
    else:
        names = examination.names
        for name in track(names, "Predicting", console=console, transient=True, disable=not console.is_terminal):
            examination.add(name)
        findings = examination.findings()
    write_bytes(output, render(folder, findings, note).encode())
    print(f"report: {output}")
