"""Signatures stay small, and what belongs to an objective or a solver is named there alone."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fxrebasin as fr
from fxrebasin.objectives import Objective
from fxrebasin.passes import Solve

ROOT = Path(fr.__path__[0])
MOST = 13


def signatures() -> Iterator[tuple[str, int]]:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                a = node.args
                names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
                own = [name for name in names if name not in ("self", "cls")]
                yield f"{path.relative_to(ROOT)}: {node.name}", len(own)


def test_no_signature_is_long() -> None:
    found = dict(signatures())
    assert len(found) > 500
    assert [name for name, count in found.items() if count > MOST] == []


def options(function: Callable[..., Any], protocol: type) -> set[str]:
    """The parameters of an objective or solver beyond those that all have."""
    common = inspect.signature(protocol.__call__).parameters
    return set(inspect.signature(function).parameters) - set(common)


OPTIONS = options(fr.objectives.weights, Objective).union(
    options(fr.solvers.coordinate_descent, fr.solvers.Solver),
    options(fr.solvers.frank_wolfe, fr.solvers.Solver),
)


@pytest.mark.parametrize("function", [fr.match, fr.rebasin, fr.activation_matching, Solve])
def test_options_are_named_where_they_belong(function: Callable[..., Any]) -> None:
    assert {"vector_weight", "max_sweeps", "order", "budget", "bound", "steps"} <= OPTIONS
    assert not OPTIONS & set(inspect.signature(function).parameters)
