"""``fxrebasin path``: what lies on the way from A to B, and what alignment does to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import fxrebasin as fr

from ..drawing.figures import check_picture_path
from .data import OUTPUT_DISTANCE, batches_of, loss_on, output_distance
from .options import A, B, Data, Example, Model, Seed
from .output import Answer, Output
from .parents import read_all


def path(
    a: A,
    b: B,
    *,
    model: Model = None,
    data: Data = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw it: .png, .svg or .pdf; replaced if it is there.")
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="Points on the way.")] = 11,
    seed: Seed = 0,
    example: Example,
    output: Output,
) -> Answer:
    """Measure the straight line from A to B as they are, and with B aligned.

    With --data, the loss (and accuracy) on it; BatchNorm is measured afresh at every point. Without
    data there is no loss: what is measured is how far outputs on random inputs are from all that
    lies between the outputs of A and of B, relative to their size.
    """
    if plot is not None:
        check_picture_path(plot)
    subject, (first, second) = read_all([a, b], model, example, output)
    batches = None if data is None else batches_of(data, subject)
    if batches is None:
        evaluate = output_distance(first.module, second.module, subject)
        output.say("there is no --data, so no loss: the distance of outputs on random inputs")
    else:
        evaluate = loss_on(batches)
    aligned = fr.rebasin(
        second.module,
        to=first.module,
        args=subject.args,
        kwargs=subject.kwargs,
        seed=seed,
        progress=output.progress,
    )
    moved = aligned.report.permutation.apply_to(second.module)
    before, after = (
        fr.interpolate(
            first.module, other, evaluate, steps=steps, loader=batches, progress=output.progress
        )
        for other in (second.module, moved)
    )
    name = "loss" if batches is not None else OUTPUT_DISTANCE
    if plot is not None:
        before.plot(plot, compare=after, labels=("B as it came", "B aligned"), loss=name)
    data_out = {
        "measured": name,
        "as_they_came": json.loads(before.to_json()),
        "aligned": json.loads(after.to_json()),
    }
    drawn = () if plot is None else (f"written: {plot}",)
    texts = (
        f"{what}: {_named(found, name)}"
        for what, found in (("as they came", before), ("aligned", after))
    )
    return Answer(data_out, (*texts, *drawn))


def _named(found: fr.Path, name: str) -> str:
    """A path as a table in which the loss has its own name."""
    text = str(found)
    if name == OUTPUT_DISTANCE:
        text = text.replace("loss barrier", f"{name}, barrier").replace("     loss", " distance")
    return text
