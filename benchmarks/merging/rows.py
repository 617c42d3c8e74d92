"""What was measured, kept in a file so that a run that is begun again continues."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
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
        fresh: the studies that are measured again, whatever is kept of them.
        table: rows from elsewhere, for those that the file lacks.
    """

    def __init__(
        self,
        path: Path,
        *,
        commit: str,
        fresh: Collection[str] = (),
        table: Iterable[Row] = (),
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.path, self.commit = path, commit
        kept = [Row(**json.loads(line)) for line in path.read_text().splitlines()]
        known = {row.key: row for row in (*table, *kept)}
        self.rows: dict[Key, Row] = {k: row for k, row in known.items() if row.study not in fresh}
        self.begun = {row.study for row in kept}
        """The studies of which the file has rows, and not only the table."""

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
        self.begun.add(study)
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


def measured_at(rows: Iterable[Row]) -> str:
    """A sentence on the code that rows were measured with.

    >>> measured_at([Row("s", "n", "m", k, commit, {}) for k, commit in enumerate("aab")])
    'Measured at commit a (rows: 2) and b (1).'
    """
    counts = Counter(row.commit for row in rows)
    (commit, count), *others = sorted(counts.items())
    return (
        " and ".join(
            [f"Measured at commit {commit} (rows: {count})", *(f"{c} ({n})" for c, n in others)]
        )
        + "."
    )


HEADER = ("study", "network", "method", "seed", "figure", "value", "commit")


def as_csv(rows: Iterable[Row]) -> str:
    """Every figure of every row, one a line.

    >>> print(as_csv([Row("s", "n", "m", 0, "c", {"loss": 0.5})]), end="")
    study,network,method,seed,figure,value,commit
    s,n,m,0,loss,0.5,c
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for row in rows:
        for name, value in row.figures.items():
            told = (row.study, row.network, row.method, row.seed, name, f"{value:.9g}", row.commit)
            writer.writerow(told)
    return text.getvalue()


def from_csv(text: str) -> list[Row]:
    """The rows of what :func:`as_csv` wrote, without their curves."""
    figures: dict[tuple[str, ...], dict[str, float]] = {}
    for line in csv.DictReader(io.StringIO(text)):
        key = tuple(line[name] for name in ("study", "network", "method", "seed", "commit"))
        figures.setdefault(key, {})[line["figure"]] = float(line["value"])
    return [
        Row(study, network, method, int(seed), commit, found)
        for (study, network, method, seed, commit), found in figures.items()
    ]
