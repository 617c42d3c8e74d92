"""``fxrebasin align``: B with its units where those of A are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fxrebasin as fr

from .data import batches_of
from .options import A, B, Data, Example, Model, Seed, Target
from .output import Answer, Output
from .parents import about_files, check_target, read_all, write


def align(
    a: A,
    b: B,
    *,
    model: Model = None,
    data: Data = None,
    seed: Seed = 0,
    permutation: Annotated[
        Path | None, typer.Option(help="Write the permutation as well (.safetensors).")
    ] = None,
    target: Target,
    example: Example,
    output: Output,
) -> Answer:
    """Write B with its units reordered to match A's: the same function, in A's basin.

    Weights are compared; with --data, activations first, and weights from there.
    """
    check_target(target, b)
    subject, (first, second) = read_all([a, b], model, example, output)
    start = None
    if data is not None:
        batch = batches_of(data, subject)[0]
        by_name = isinstance(batch, dict)
        start = fr.activation_matching(
            second.module,
            to=first.module,
            args=() if by_name else _inputs(batch),
            kwargs=batch if by_name else None,
            progress=output.progress,
        ).permutation
    aligned = fr.rebasin(
        second.module,
        to=first.module,
        args=subject.args,
        kwargs=subject.kwargs,
        start=start,
        symmetry=None if start is None else start.symmetry,
        seed=seed,
        progress=output.progress,
    )
    report = aligned.report
    found = report.permutation
    about = about_files("align", [a, b], permutation=found.digest)
    write(found.apply_to(second.module), second, target, about)
    if permutation is not None:
        found.save(permutation)
    verified = report.verification
    data_out = {
        "output": str(target.output),
        "moved_units": found.moved_units,
        "movable_units": found.symmetry.movable_units,
        "objective_before": report.objective_before,
        "objective_after": report.objective_after,
        "relative_error": None if verified is None else verified.error,
        "permutation": found.digest,
    }
    return Answer(data_out, (str(report), f"written: {target.output}"))


def _inputs(batch: object) -> tuple[object, ...]:
    return (batch[0],) if isinstance(batch, (tuple, list)) else (batch,)
