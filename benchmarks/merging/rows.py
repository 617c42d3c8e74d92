"""What was measured, kept in a file so that a run that is begun again continues."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Row:
    """One way to merge some networks, once."""

    study: str
    network: str
    method: str
    seed: int
    commit: str
    figures: Mapping[str, float]
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """What is drawn: a list of figures under a name."""

    @property
    def key(self) -> Key:
        return (self.study, self.network, self.method, self.seed)


class Results:
    """The rows of a file, to which new ones are appended.

    Args:
        path: lines of JSON; made where it is missing.
        commit: what is measured now.
        fresh: forget what is kept, a row as soon as it is asked for.
    """

    def __init__(self, path: Path, *, commit: str, fresh: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.path, self.commit = path, commit
        kept = [Row(**json.loads(line)) for line in path.read_text().splitlines()]
        self.rows: dict[Key, Row] = {} if fresh else {row.key: row for row in kept}

    def has(self, study: str, network: str, method: str, seed: int = 0) -> bool:
        return (study, network, method, seed) in self.rows

    def lacks(self, study: str, network: str, methods: Iterable[str], seed: int = 0) -> list[str]:
        """The methods that have not been measured."""
        return [m for m in methods if not self.has(study, network, m, seed)]

    def add(
        self,
        study: str,
        network: str,
        method: str,
        figures: Mapping[str, float],
        *,
        seed: int = 0,
        curves: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Keep what was measured."""
        row = Row(study, network, method, seed, self.commit, dict(figures), dict(curves or {}))
        self.rows[row.key] = row
        with self.path.open("a") as file:
            print(json.dumps(asdict(row)), file=file)

    def of(self, study: str) -> list[Row]:
        return [row for row in self.rows.values() if row.study == study]


def by_method(rows: Iterable[Row], network: str) -> dict[str, list[Row]]:
    """The rows of one network, a list of seeds per method, in the order in which they came."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.network == network:
            found.setdefault(row.method, []).append(row)
    return found


def networks_of(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.network for row in rows))


def middle(rows: Sequence[Row], figure: str) -> float:
    """The median of a figure over seeds."""
    return statistics.median(row.figures[figure] for row in rows)


def spread(rows: Sequence[Row], figure: str, form: str = ".3f") -> str:
    """The figure of every seed, from the least to the greatest: one number where all agree.

    >>> rows = [Row("s", "n", "m", k, "", {"loss": x}) for k, x in enumerate((0.25, 0.5))]
    >>> spread(rows, "loss", ".2f")
    '0.25 to 0.50'
    """
    values = [row.figures[figure] for row in rows]
    low, high = (format(x, form) for x in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def as_csv(rows: Iterable[Row]) -> str:
    """Every figure of every row, one a line.

    >>> print(as_csv([Row("s", "n", "m", 0, "c", {"loss": 0.5})]), end="")
    study,network,method,seed,figure,value
    s,n,m,0,loss,0.5
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("study", "network", "method", "seed", "figure", "value"))
    for row in rows:
        for name, value in row.figures.items():
            writer.writerow((row.study, row.network, row.method, row.seed, name, f"{value:.6g}"))
    return text.getvalue()
