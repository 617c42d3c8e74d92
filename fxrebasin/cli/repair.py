"""``fxrebasin repair``: a merged checkpoint with the statistics of its parents."""

from __future__ import annotations

from typing import Annotated

import typer

import fxrebasin as fr

from ..errors import InvalidArgumentError
from ..repair.correcting import METHODS
from .data import batches_of
from .options import Data, Example, Model, Target
from .output import Answer, Output
from .parents import about_files, check_target, read_all, write


def repair(
    merged: Annotated[str, typer.Argument(help="What was merged, pruned or rounded.")],
    *,
    like: Annotated[
        list[str],
        typer.Option(help="A parent, aligned; once for each.", show_default=False),
    ],
    data: Data = None,
    model: Model = None,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "repair",
    sequential: Annotated[bool, typer.Option(help="Layer after layer.")] = False,
    target: Target,
    example: Example,
    output: Output,
) -> Answer:
    """Give the channels of a merged model the statistics that they have in its parents.

    Parents have to be aligned with each other, as `fxrebasin align` writes them.
    """
    if data is None:
        raise InvalidArgumentError("--data: statistics are measured on data; give batches")
    if method not in METHODS:
        raise InvalidArgumentError(f"--method: expected one of {METHODS}, found {method!r}")
    check_target(target, merged)
    subject, (first, *parents) = read_all([merged, *like], model, example, output)
    repaired = fr.repair(
        first.module,
        like=[parent.module for parent in parents],
        data=batches_of(data, subject),
        method=method,  # type: ignore[arg-type]  # one of its methods, as checked
        sequential=sequential,
        progress=output.progress,
    )
    write(repaired, first, target, about_files("repair", [merged, *like], method=method))
    report = vars(repaired)["repair_report"]
    data_out = {"output": str(target.output), "places": len(report), "report": str(report)}
    return Answer(data_out, (str(report), f"written: {target.output}"))
