"""Options that several commands share, as dataclasses whose fields are options.

A command takes them like any other argument, and :func:`command` spreads them over the command
line, so that no signature is long and each option is described once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from .output import Answer


@dataclass(frozen=True)
class Example:
    """The example inputs of a model, and where and in which precision it runs."""

    input: Annotated[
        list[str] | None,
        typer.Option(help="Shape of an input, as 1,3,224,224; once for each input."),
    ] = None
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Length of the example text of a language model.")
    ] = None
    device: Annotated[str, typer.Option(help="Where to compute, as cpu or cuda.")] = "cpu"
    dtype: Annotated[
        str | None,
        typer.Option(help="Type of the weights, as bfloat16; by default that of the files."),
    ] = None


@dataclass(frozen=True)
class Target:
    """The file that is written."""

    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The file or folder to write.", show_default=False),
    ]
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="torchvision:NAME, timm:NAME, hf:DIR or package.module:factory; with options as in "
        "timm:NAME,num_classes=10. Of folders of transformers, found by itself.",
    ),
]
A = Annotated[str, typer.Argument(help="Checkpoint A: a file, or a folder.", show_default=False)]
B = Annotated[str, typer.Argument(help="Checkpoint B.", show_default=False)]
Data = Annotated[
    str | None,
    typer.Option(
        help="A .pt or .safetensors file with the tensors inputs and labels (or the keyword "
        "arguments of the model), or package.module:factory, which gives batches."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of whatever is drawn.")]


def command(app: typer.Typer, function: Callable[..., Answer]) -> None:
    """Register a function as the command of its name, which prints what the function returns."""
    groups: dict[str, type[Any]] = {}
    parameters = []
    hints = get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        kind = hints[parameter.name]
        if isinstance(kind, type) and is_dataclass(kind):
            groups[parameter.name] = kind
            parameters += _options_of(kind)
        else:
            parameters.append(parameter.replace(annotation=kind, kind=parameter.KEYWORD_ONLY))

    def run(**given: Any) -> None:
        arguments = {
            name: kind(**{f.name: given.pop(f.name) for f in fields(kind) if f.init})
            for name, kind in groups.items()
        }
        output = arguments["output"]
        with output.answering():
            answer = function(**arguments, **given)
        output.give(answer)

    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    run.__doc__ = "\n\n".join(" ".join(text.split()) for text in paragraphs)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    vars(run)["__signature__"] = inspect.Signature(parameters)
    app.command(function.__name__)(run)


def _options_of(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    given = inspect.signature(group).parameters
    return [
        given[field.name].replace(annotation=hints[field.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for field in fields(group)
        if field.init
    ]
