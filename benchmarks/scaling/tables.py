"""The tables of what was measured, and the exponents."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measuring.reporting import markdown_table, provenance
from benchmarks.scaling.extrapolation import SPARSE_FROM, Extrapolation, Gpu
from benchmarks.scaling.fits import STEPS, Curve
from benchmarks.scaling.llama import Llama
from benchmarks.scaling.llama_text import section
from benchmarks.scaling.measuring import LONG, MOST_RUNS, SWEEPS
from benchmarks.scaling.rows import Row

HEADER = (
    *("parameters", "blocks", "discovery (s)", "products (s)", "assignment (s)", "evaluation (s)"),
    *("rest (s)", "total (s)", "sweeps", "runs", "GFLOP/s", "memory (MiB)", "matrices (MiB)"),
)
LEGEND = (
    "Two networks whose weights are random and have nothing in common are aligned, in a process "
    f"of their own that has aligned two small ones before, with at most {SWEEPS} sweeps after the "
    "pass that solves every block once. Products: the cost matrices, bringing their operands into "
    "order included. Assignment: the linear assignment problems. Evaluation: the objective and its "
    "changes, in float64. Rest: all else, such as the checks of the weights. Total: the four of "
    "them. Discovery: `analyze` with `check=False`, once. GFLOP/s: of the products. Memory: by "
    "how much the process grew at most (resident set, of the first run), the weights of both "
    "networks not included; matrices: what all cost matrices take. Times are those of the fastest "
    f"run of {MOST_RUNS}, or of as many as began within {LONG:g} s. Exponents are fitted by least "
    "squares of logarithms over the upper half of the sizes, the middle one included; they are of "
    "these sizes, and of this machine, on which other programs were running: single rows can be "
    "too slow. `python -m benchmarks.scaling` measures these tables."
)


def document(curves: Sequence[Curve]) -> str:
    """Everything, with the section on a model that is too large to measure."""
    rows = list({row.key: row for curve in curves for row in curve.rows}.values())
    notes = provenance((row.commit for row in rows), (row.threads for row in rows))
    exponents = [
        (_title(curve), *(f"{law.exponent:.2f}" if law else "" for law in curve.fits().values()))
        for curve in curves
    ]
    parts = [
        f"# How weight matching scales\n\n{notes}\n{LEGEND}",
        "![Seconds per step against width and depth](scaling.png)\n\nDashed: the fits.",
        "## Exponents",
        markdown_table(("curve", *STEPS), exponents),
    ]
    for curve in curves:
        cells = [(str(n), *_cells(row)) for n, row in zip(curve.sizes, curve.rows, strict=True)]
        parts += [f"## {_title(curve)}", markdown_table((curve.axis, *HEADER), cells)]
    sizes = {solved.size for row in rows for solved in row.solved}
    if sum(size >= SPARSE_FROM for size in sizes) > 1:
        parts.append(section(Extrapolation(rows, Llama()), Gpu()))
    return "\n\n".join(parts) + "\n"


def _title(curve: Curve) -> str:
    row = curve.rows[0]
    if curve.axis == "width":
        return f"{row.title}, width at depth {row.depth}"
    return f"{row.title}, depth at width {row.width}"


def _cells(row: Row) -> tuple[str, ...]:
    steps = (row.discovery, row.products, row.assignment, row.evaluation, row.rest, row.total)
    return (
        *(f"{row.parameters:,}", f"{row.blocks:,}", *(f"{seconds:.3f}" for seconds in steps)),
        *(str(row.sweeps), str(row.runs), f"{row.flops / row.products / 1e9:.3g}"),
        *(f"{row.memory / 2**20:,.0f}", f"{row.matrix_bytes / 2**20:,.0f}"),
    )
