"""Rooms import only from layers below their own, and no imports go in a circle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fxrebasin.passes

ROOT = Path(fxrebasin.__path__[0])

LAYERS: list[set[str]] = [
    {"errors"},
    {"arguments", "files", "layouts"},
    {"signature", "assignment", "drawing", "models"},
    {"checkpoints", "rules", "symmetry", "tracing"},
    {"propagation", "refinement", "matching", "verification"},
    {"canonical"},
    {"kinds"},
    {"objectives", "testing", "compaction", "repair"},
    {"passes", "merging"},
    {"api", "one_model"},
    {"learning"},
    {"compile"},
    {""},
    {"cli"},
]
"""Folders of the package, or files beside them; ``""`` is the package itself."""

LEVEL = {room: k for k, layer in enumerate(LAYERS) for room in layer}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imports_of(name: str) -> set[str]:
    """The modules of the library that a module imports, anywhere in its text."""
    path = MODULES[name]
    package = ["fxrebasin", *name.split(".")] if name else ["fxrebasin"]
    if path.name != "__init__.py":
        package.pop()
    found = []
    for full, alias in imported_by(path, package):
        inside = f"{full}.{alias}".removeprefix("fxrebasin.")
        found.append(f"fxrebasin.{inside}" if inside in MODULES else full)
    ours = {f for f in found if f == "fxrebasin" or f.startswith("fxrebasin.")}
    return {f.removeprefix("fxrebasin").removeprefix(".") for f in ours}


def imported_by(path: Path, package: list[str]) -> list[tuple[str, str]]:
    """The modules that a file of a package imports, and what it takes of each (or nothing)."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            full = ".".join([*base, *([node.module] if node.module else [])])
            found += [(full, alias.name) for alias in node.names]
    return found


def test_every_room_is_in_one_layer() -> None:
    assert sum(map(len, LAYERS)) == len(LEVEL)
    assert {room_of(name) for name in MODULES} == set(LEVEL)


def test_rooms_import_from_layers_below() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name in MODULES
        for imported in sorted(imports_of(name))
        if room_of(imported) != room_of(name)
        and not LEVEL[room_of(imported)] < LEVEL[room_of(name)]
    ]
    assert not wrong


def test_no_imports_go_in_a_circle() -> None:
    """Also not those that are made for types only, or inside functions."""
    order = [*TopologicalSorter({name: imports_of(name) for name in MODULES}).static_order()]
    assert set(order) >= set(MODULES)
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def test_passes_do_not_import_each_other() -> None:
    passes = {n for n in MODULES if room_of(n) == "passes"}
    steps = {f"passes.{type_name.lower()}" for type_name in fxrebasin.passes.__all__}
    assert steps <= passes
    for name in steps:
        assert not imports_of(name) & steps, name


def test_the_first_level_stays_small() -> None:
    files = {path.name for path in ROOT.glob("*.py")}
    assert len(files) <= 6
    rooms = [path for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert all((room / "__init__.py").read_text().startswith('"""') for room in rooms)


def test_benchmarks_do_not_import_from_the_tests() -> None:
    """The tests import the random networks of the benchmarks; the way back would be a circle."""
    tests = Path(__file__).parents[1]
    shared = {path.stem for path in tests.glob("*.py")}
    shared |= {path.parent.name for path in tests.glob("*/__init__.py")}
    assert {"networks", "reliability", "conftest"} <= shared
    files = list((tests.parent / "benchmarks").rglob("*.py"))
    assert files
    for path in files:
        roots = {module.partition(".")[0] for module, _ in imported_by(path, [])}
        assert not roots & {"tests", *shared}, path


def test_this_test_sees_imports() -> None:
    assert {"passes.pipeline", "models.rebased"} <= imports_of("api")
    assert {"layouts.primitives", "layouts.units"} <= imports_of("rules.call")
    assert "passes.trace" in imports_of("passes")
    assert "layouts.adoption" not in imports_of("layouts.layout")
