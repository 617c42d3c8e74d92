"""``fxrebasin inspect``: what is symmetric in a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import fxrebasin as fr

from ..errors import InvalidArgumentError
from .models import subject_of
from .options import Example
from .output import Answer, Output


def inspect(
    model: Annotated[
        str,
        typer.Argument(
            help="torchvision:NAME, timm:NAME, hf:DIR or package.module:factory.",
            show_default=False,
        ),
    ],
    *,
    explain: Annotated[
        str | None, typer.Option(help="Why an axis moves or stays, as fc.weight:0.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the blocks: .svg, .png, .pdf.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with all of it.")] = None,
    example: Example,
    output: Output,
) -> Answer:
    """Show the blocks of a model, how much of it moves, and what stays and why."""
    subject = subject_of(model, example)
    symmetry = fr.analyze(subject.module, subject.args, subject.kwargs)
    if plot is not None:
        symmetry.plot(plot)
    if html is not None:
        symmetry.save_html(html, title=model)
    if explain is not None:
        name, colon, dim = explain.rpartition(":")
        if not colon or not dim.isdecimal():
            raise InvalidArgumentError(
                f"--explain: expected a parameter and a dim, as fc.weight:0, found {explain!r}"
            )
        text = str(symmetry.explain(name, int(dim)))
        return Answer({"model": model, "explanation": text}, (text,))
    data = {"model": model, **symmetry.summary(), "symmetry": json.loads(symmetry.to_json())}
    written = tuple(f"written: {path}" for path in (plot, html) if path is not None)
    return Answer(data, (str(symmetry), *written))
