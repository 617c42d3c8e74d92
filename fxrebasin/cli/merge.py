"""``fxrebasin merge``: one checkpoint of several."""

from __future__ import annotations

from typing import Annotated

import typer

import fxrebasin as fr

from ..errors import InvalidArgumentError
from .data import batches_of
from .options import Data, Example, Model, Seed, Target
from .output import Answer, Output
from .parents import about_files, check_target, read_for_merging, write

METHODS = ("mean", "to_reference", "sequential", "tree", "many", "cycle_consistent")


def merge(
    checkpoints: Annotated[
        list[str], typer.Argument(help="Two checkpoints or more.", show_default=False)
    ],
    *,
    model: Model = None,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "many",
    weights: Annotated[
        str | None, typer.Option(help="How much each model counts, as 2,1,1.")
    ] = None,
    data: Data = None,
    seed: Seed = 0,
    target: Target,
    example: Example,
    output: Output,
) -> Answer:
    """Align checkpoints with the first, average them, and write the result.

    With --data, activations are repaired: every channel gets the statistics that it has in the
    models. "mean" averages without aligning.
    """
    if len(checkpoints) < 2:
        raise InvalidArgumentError("expected two checkpoints or more, found one")
    if method not in METHODS:
        raise InvalidArgumentError(f"--method: expected one of {METHODS}, found {method!r}")
    shares = None if weights is None else _numbers(weights)
    check_target(target, checkpoints[0])
    subject, first, parents = read_for_merging(checkpoints, model, example, output)
    merged = fr.merge(
        parents,
        subject.args,
        subject.kwargs,
        data=None if data is None else batches_of(data, subject),
        weights=shares,
        method=getattr(fr.merge_methods, method),
        seed=seed,
        progress=output.progress,
    )
    report = merged.report
    digests = ",".join(p.digest for p in report.permutations)
    about = about_files("merge", checkpoints, method=method, permutation=digests)
    write(merged, first, target, about)
    data_out = {
        "output": str(target.output),
        "method": method,
        "moved_units": [p.moved_units for p in report.permutations],
        "movable_units": report.symmetry.movable_units,
        "relative_error": report.error,
        "repaired": report.repair is not None,
        "notes": report.notes,
    }
    return Answer(data_out, (str(report), f"written: {target.output}"))


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError as error:
        raise InvalidArgumentError(
            f"--weights: expected numbers as 2,1,1, found {text!r}"
        ) from error
