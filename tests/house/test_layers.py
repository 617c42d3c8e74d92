"""Imports point downwards only."""

from __future__ import annotations

import ast
from pathlib import Path

import fxrebasin

ROOT = Path(fxrebasin.__path__[0])

LAYERS: list[set[str]] = [
    {"errors", "files", "effects", "progress"},
    # what an op sees
    {"units"},
    {"layout"},
    {"parameters"},
    {"grouped_axes", "relations"},
    {"concatenation"},
    {"primitives"},
    {"signature_parsing"},
    {"signature_plan"},
    {"signature"},
    {"rules.registry"},
    {"rules.contraction", "rules.movement", "rules.normalisation"},
    {"rules.order"},
    {"rules.indexing"},
    {"rules.complex_numbers", "rules.places", "rules.recurrent", "rules.spatial", "rules.writing"},
    {"rules.table"},
    {"rules.book"},
    # running a model on units
    {"constraint_graph", "graph_inputs", "graph_module", "outputs", "validation"},
    {"storages", "stored"},
    {"tracing", "rounding", "experts"},
    {"dispatch"},
    {"constraints", "recording"},
    {"eager", "exporting"},
    {"front_ends", "propagation"},
    {"containment"},
    {"blocks"},
    {"refinement"},
    # the contract between compiler and solver, and what can be read off it
    {"symmetry"},
    {"symmetry_json", "explanation", "permutation_spec"},
    {"permutation"},
    {"claims"},
    {"segments"},
    {"rule_example", "module_call"},
    {"rule_claim"},
    {"lost_symmetry"},
    {"testing"},
    # solving, emitting, checking
    {"assignment.problem", "assignment.fixed_point", "objectives"},
    {"assignment.fused_passes", "assignment.small_problems"},
    {"assignment.kernels"},
    {"assignment.augmenting_paths"},
    {"assignment.dense", "assignment.passes", "assignment.sparse_prices"},
    {"assignment.device_engine"},
    {
        "assignment.auction",
        "assignment.candidates",
        "assignment.chain",
        "assignment.dead_units",
        "assignment.duplicates",
        "assignment.device_passes",
        "assignment.sinkhorn",
    },
    {"assignment.augmentation"},
    {"assignment.sparse"},
    {"assignment.sparse_engine"},
    {"assignment.choice"},
    {"assignment"},
    {"cost_matrices", "schedules"},
    {"trees"},
    {"tree_solver", "frank_wolfe", "swaps", "signatures", "rewriting", "verification"},
    {"block_solver"},
    {"descent"},
    {"starts"},
    {"search"},
    {"falsification"},
    {"matching"},
    {"report"},
    {
        f"passes.{p}"
        for p in ("trace", "propagate", "refine", "falsify", "solve", "rewrite", "verify")
    },
    {"passes"},
    {"api"},
    {"activations"},
    # what is done with aligned models, and for the eye
    {"batch_norm", "path_report"},
    {"paths", "path_plot"},
    {"drawing", "drawing.flows", "drawing.text"},
    {"drawing.graph"},
    {"drawing.layout"},
    {"drawing.scene", "drawing.names"},
    {"drawing.lines"},
    {"drawing.shapes"},
    {"drawing.plot"},
    {"drawing.html_report"},
    {""},
    {"demo"},
    {"commands"},
    {"cli"},
]
"""A module may import from earlier layers only, not from its own; ``""`` is the package."""

EXCEPTIONS = {
    # Inside functions. A group makes its own elements, and answers what is asked about it.
    ("symmetry", "permutation"),
    ("symmetry", "symmetry_json"),
    ("symmetry", "explanation"),
    ("symmetry", "permutation_spec"),
    ("symmetry", "drawing.graph"),
    ("symmetry", "drawing.plot"),
    ("symmetry", "drawing.html_report"),
    # A path draws itself; only then is matplotlib needed.
    ("path_report", "path_plot"),
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}
LEVEL = {name: k for k, layer in enumerate(LAYERS) for name in layer}


def for_types_only(tree: ast.Module) -> set[ast.AST]:
    """What stands under ``if TYPE_CHECKING``."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }


def imports_of(name: str) -> set[str]:
    """The modules of the library that a module imports."""
    path = MODULES[name]
    package = ["fxrebasin", *name.split(".")] if name else ["fxrebasin"]
    if path.name != "__init__.py":
        package.pop()
    tree = ast.parse(path.read_text())
    skipped = for_types_only(tree)
    found = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            full = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inside = f"{full}.{alias.name}".removeprefix("fxrebasin.")
                found.append(f"fxrebasin.{inside}" if inside in MODULES else full)
    ours = {f for f in found if f == "fxrebasin" or f.startswith("fxrebasin.")}
    return {f.removeprefix("fxrebasin").removeprefix(".") for f in ours}


def test_every_module_is_in_one_layer() -> None:
    listed = [name for layer in LAYERS for name in layer]
    assert len(listed) == len(set(listed))
    assert set(MODULES) - {"rules", "__main__"} == set(listed)


def test_imports_point_downwards() -> None:
    wrong = [
        (name, imported)
        for name in LEVEL
        for imported in imports_of(name)
        if not LEVEL.get(imported, -1) < LEVEL[name] and (name, imported) not in EXCEPTIONS
    ]
    assert not wrong


def test_every_exception_is_needed() -> None:
    assert all(imported in imports_of(name) for name, imported in EXCEPTIONS)


def test_passes_do_not_import_each_other() -> None:
    for name in MODULES:
        if name.startswith("passes."):
            assert not any(i.startswith("passes") for i in imports_of(name)), name


def test_only_the_interface_uses_the_passes() -> None:
    users = {n for n in MODULES if any(i.split(".")[0] == "passes" for i in imports_of(n))}
    assert users == {"api", "passes"}


def test_this_test_sees_imports() -> None:
    assert {"passes", "matching", "report"} <= imports_of("api")
    assert {"signature", "primitives", "layout", "units"} <= imports_of("rules.registry")
    assert "passes.trace" in imports_of("passes")
    assert "parameters" not in imports_of("layout")
