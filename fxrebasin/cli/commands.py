"""The commands of the program ``fxrebasin``, a file each.

A command reads its options, calls the library, and prints; it holds no algorithm.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import fxrebasin

from .align import align
from .doctor import doctor
from .inspect import inspect
from .merge import merge
from .options import command
from .path import path
from .repair import repair
from .transport import transport
from .verify import verify

app = typer.Typer(
    help="Find the permutation symmetries of neural networks and align one with another.",
    no_args_is_help=True,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fxrebasin {fxrebasin.__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Hold the options of the program itself (its help text is that of ``app``)."""


@app.command()
def demo(
    *,
    output: Annotated[Path, typer.Option(help="Where to write the picture.")] = Path("barrier.png"),
    seed: Annotated[int, typer.Option(min=0, help="Which pair of networks to train.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training per network.")] = 20,
) -> None:
    """Train pairs of small networks, align them, and show the barrier before and after.

    Needs no data but what comes with scikit-learn, and about a minute.
    """
    if not output.parent.is_dir():
        # Said now, not after a minute of training.
        raise typer.BadParameter(f"there is no folder {output.parent}", param_hint="--output")
    missing = [name for name in ("matplotlib", "sklearn") if find_spec(name) is None]
    if missing:
        typer.echo(
            f"the demo needs {' and '.join(missing)}: pip install 'fxrebasin[demo]'", err=True
        )
        raise typer.Exit(1)
    from ..drawing.figures import check_picture_path
    from .demo import run_demo

    try:
        check_picture_path(output)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--output") from error

    run_demo(output=output, seed=seed, epochs=epochs, console=Console())


for function in (inspect, align, merge, path, repair, transport, verify, doctor):
    command(app, function)
