"""What a command says: to people, to machines, or not at all; and its exit code.

A command returns an :class:`Answer`. With ``--json`` its data is all that is on the standard
output; remarks and errors are on the standard error.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

FINE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Answer:
    """What came of a command."""

    data: Mapping[str, Any]
    """For machines: what JSON can hold."""
    shown: tuple[RenderableType, ...] = ()
    """For people, one after another; texts are printed as they are."""
    is_fine: bool = True
    """Did what was verified or matched come out right?"""


@dataclass(frozen=True)
class Output:
    """The options of every command."""

    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
    remarks: list[str] = field(default_factory=list, init=False)

    @property
    def progress(self) -> bool:
        """Are progress bars wanted?"""
        return not (self.quiet or self.json)

    def say(self, remark: str) -> None:
        """Say something by the way; a machine finds it under ``"remarks"``."""
        self.remarks.append(remark)
        if self.progress:
            _print(Console(stderr=True), f"note: {remark}")

    def give(self, answer: Answer) -> None:
        """Print what came of a command, and end with the exit code that says so."""
        if self.json:
            self._print_object(answer.data)
        elif not self.quiet:
            console = Console()
            for part in answer.shown:
                _print(console, part)
        if not answer.is_fine:
            raise typer.Exit(FAILED)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Errors become a line on the standard error and an exit code; warnings become remarks."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                warnings.showwarning = lambda message, *_, **__: self.say(str(message))
                yield
        except (ValueError, OSError, ModuleNotFoundError) as error:
            self._fail(error, BAD_USAGE)
        except RuntimeError as error:
            if isinstance(error, (typer.Exit, typer.Abort)):
                raise
            self._fail(error, FAILED)
        except KeyboardInterrupt:
            print("interrupted; nothing was written", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None

    def _print_object(self, data: Mapping[str, Any]) -> None:
        typer.echo(json.dumps(_as_json({**data, "remarks": self.remarks}), indent=2))

    def _fail(self, error: Exception, code: int) -> None:
        text = str(error) or type(error).__name__
        if self.json:
            self._print_object({"error": {"kind": type(error).__name__, "text": text}})
        _print(Console(stderr=True), f"error: {text}")
        raise typer.Exit(code) from error


def _as_json(value: Any) -> Any:
    """What JSON has no number for becomes null."""
    if isinstance(value, Mapping):
        return {key: _as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(console: Console, part: RenderableType) -> None:
    if isinstance(part, str):
        console.print(part, markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(part)
