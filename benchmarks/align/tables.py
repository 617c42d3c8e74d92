"""The tables of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.align.rows import TOLERANCE, Row
from benchmarks.align.runs import LONG
from benchmarks.measuring.reporting import markdown_table, provenance

NAN = float("nan")
OURS = "ours"
HEADER = (
    *("model", "method", "runs", "blocks", "units", "discovery (s)", "solve (s)", "sweeps"),
    *("gained", "by matrices", "memory (MiB)", "function"),
)
RATIOS = (
    *("model", "against", "solve", "discovery and solve"),
    *("until as high", "until as high by matrices", "gained", "by matrices"),
)
PLANTED_HEADER = (
    *("model", "method", "runs", "recovered", "worst", "best", "of planted gain", "sweeps"),
    *("solve (s)", "function"),
)
METHODS = (
    "Ours is `analyze` and `weight_matching`. Plain is algorithm 1 of Git Re-Basin (Ainsworth et "
    "al. 2023), written plainly, on the blocks of the same analysis that are not nested in "
    "others: its discovery is ours. Methods run in turn in one process, with seeds 0, 1, ...; one "
    f"that took more than {LONG} s is not run again. Figures are medians over the runs."
)
LEGEND = (
    f"{METHODS} For matrices: `vector_weight=0`. Without sweeps: `max_sweeps=0`, every block is "
    "placed once, by what is settled of its neighbours. Rebasin is the package `rebasin` 0.0.47, "
    "whose costs ignore which entries of vectors such as biases match: it adds their products up "
    "to one number, and which leaves the running statistics of BatchNorm in place, for its user to "
    "compute anew. Both networks have random weights, each "
    "tensor with values of its own. Gained: by how much the inner product of A's parameters with "
    "those of B rises, in float64, the same for all methods; by matrices: the part of it that is "
    "not of vectors. Memory: by how much a process that runs one method, discovery included, "
    "grows at most. Function: whether the weights returned keep the outputs of B, in float64, up "
    f"to {TOLERANCE:g} of the largest entry; statistics left behind: they do once BatchNorm takes "
    "the statistics of the batch. Units in percent: of those that `analyze` finds. "
    "`python -m benchmarks.align` measures these tables."
)
PLANTED_LEGEND = (
    "B is a random valid permutation of A, with gaussian noise of a share of each tensor's "
    f"standard deviation. {METHODS} Recovered: the share of all movable units that come back to "
    "their places, nested ones included. Of planted gain: what was gained, relative to what "
    "undoing the planted permutation gains; less than 100% is a better optimum missed. "
    "`python -m benchmarks.align --planted` measures this table."
)


def median(figures: Sequence[float]) -> float:
    return statistics.median(figures) if figures else NAN


def document(rows: Sequence[Row]) -> str:
    """Two random networks: all methods, and ours against each of the others."""
    units = {row.model: row.movable_units for row in rows if row.movable_units}
    parts = [
        f"# Alignment compared\n\n{_provenance(rows)}\n{LEGEND}",
        markdown_table(HEADER, [_cells(row, units.get(row.model, 0)) for row in rows]),
        "## Ours against the others\n\nSeconds of the other divided by ours, and what ours gained "
        "divided by what the other did. Until as high: by the seconds of ours where a callback "
        "stops it as soon as it has gained what the other had in the end, if ever; by matrices: "
        "where ours counts these alone (`vector_weight=0`). Not measured for ours itself.",
        markdown_table(RATIOS, ratios(rows)),
    ]
    return "\n\n".join(parts) + "\n"


def planted_document(rows: Sequence[Row]) -> str:
    """Planted permutations: what was recovered."""
    noise = " and ".join(f"{n:g}" for n in sorted({row.noise for row in rows}))
    title = f"# Planted permutations under noise of {noise}"
    table = markdown_table(PLANTED_HEADER, [_planted_cells(row) for row in rows])
    return f"{title}\n\n{_provenance(rows)}\n{PLANTED_LEGEND}\n\n{table}\n"


def _provenance(rows: Sequence[Row]) -> str:
    return provenance((row.commit for row in rows), (row.threads for row in rows))


def _cells(row: Row, movable_units: int) -> tuple[str, ...]:
    share = f" ({row.units / movable_units:.0%})" if movable_units and row.units else ""
    return (
        *(row.model, row.method, str(len(row.solve)), f"{row.blocks:,}", f"{row.units:,}{share}"),
        *(f"{median(row.discovery):.2f}", f"{median(row.solve):.2f}"),
        *(f"{median(row.sweeps):g}", f"{median(row.gains):,.1f}"),
        *(f"{median(row.matrix_gains):,.1f}", f"{row.memory:,.0f}", row.status),
    )


def ratios(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Per model and other method, how ours compares run by run; only what ran together."""
    of_ours = {row.model: row for row in rows if row.method == OURS}
    result: list[tuple[str, ...]] = []
    for other in rows:
        ours = of_ours.get(other.model)
        if other is ours or ours is None or not (other.together == ours.together and other.solve):
            continue
        pairs = list(zip(ours.discovery, ours.solve, other.discovery, other.solve, strict=False))
        solve = median([theirs / mine for _, mine, _, theirs in pairs])
        both = median([(d + s) / (discovery + mine) for discovery, mine, d, s in pairs])
        gained = median(ours.gains) / median(other.gains)
        of_matrices = median(ours.matrix_gains) / median(other.matrix_gains)
        times = (f"{solve:.2f} x", f"{both:.2f} x")
        until = [_until(other, seconds) for seconds in (other.as_high, other.as_high_by_matrices)]
        gains = [f"{gained:.4f} x", f"{of_matrices:.4f} x"]
        compared = [*until, *gains] if other.is_valid else ["function changed"] * 4
        result.append((ours.model, other.method, *times, *compared))
    return result


def _until(other: Row, seconds: Sequence[float]) -> str:
    """How much longer the other took than ours, stopped at the same gain."""
    if not seconds:
        return "-"
    times = median([theirs / mine for mine, theirs in zip(seconds, other.solve, strict=True)])
    return f"{times:.2f} x" if times else "never"


def _planted_cells(row: Row) -> tuple[str, ...]:
    recovered = row.recovered or (NAN,)
    return (
        *(row.model, row.method, str(len(row.solve)), f"{median(recovered):.1%}"),
        *(f"{min(recovered):.1%}", f"{max(recovered):.1%}"),
        f"{median(row.gains) / row.planted_gain:.1%}",
        *(f"{median(row.sweeps):g}", f"{median(row.solve):.2f}", row.status),
    )
