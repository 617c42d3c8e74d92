"""How a merged model came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from ..drawing.tables import html_table, text_table
from ..models.reported import Reported, put_report
from ..repair.report import RepairReport
from ..symmetry.group import Symmetry
from ..symmetry.transform import Transform
from .merged import Merged


@dataclass(frozen=True)
class Trial:
    """A way to merge that was tried, and what came of it."""

    alignment: str
    """``"weights"``, ``"activations"`` or ``"weights from activations"``."""
    repair: str
    """``"repair"``, ``"rescale"``, ``"reshift"``, ``"batch_norm"`` or ``"none"``."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the merged model; empty where there is no ``evaluate``."""

    @property
    def name(self) -> str:
        return self.alignment if self.repair == "none" else f"{self.alignment} + {self.repair}"


@dataclass(frozen=True, eq=False)
class MergeReport:
    """How a merged model came about: what moved, what was repaired, what each step was worth."""

    merged: Merged
    """The permutations, and how the objective rose; its ``state_dict`` is from before repair."""
    symmetry: Symmetry
    chosen: Trial
    tried: tuple[Trial, ...]
    """All that were tried, ``chosen`` among them."""
    weights: tuple[float, ...]
    """Of the models; they sum up to 1."""
    error: float
    """The largest relative difference between what a parent computes and what it computes
    permuted."""
    parents: tuple[Mapping[str, float], ...] = ()
    """Metrics of each model, where there is an ``evaluate``."""
    naive: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the mean of the models as they came, repaired like the chosen one."""
    repair: RepairReport | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def permutations(self) -> tuple[Transform, ...]:
        """Of each model, into the frame of the result, which is that of the first model."""
        return self.merged.permutations

    @property
    def barrier(self) -> float:
        """The loss of the merged model less the weighted mean of its parents'; nan where there is
        no ``evaluate``. Of two models with equal weights, it is the height of the loss in the
        middle of the line between them."""
        return self._above_parents(self.chosen.metrics)

    @property
    def naive_barrier(self) -> float:
        """The same of the mean of the models as they came."""
        return self._above_parents(self.naive)

    def _above_parents(self, metrics: Mapping[str, float]) -> float:
        if not self.parents or not metrics:
            return float("nan")
        losses = [metric["loss"] for metric in self.parents]
        return metrics["loss"] - sum(w * x for w, x in zip(self.weights, losses, strict=True))

    def _rows(self) -> list[tuple[str, Mapping[str, float]]]:
        rows = [(f"model {k}", metrics) for k, metrics in enumerate(self.parents)]
        rows += [("mean as they came", self.naive)] if self.naive else []
        rows += [(_marked(trial, self.chosen), trial.metrics) for trial in self.tried]
        return rows

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        names = tuple(self.chosen.metrics)
        cells = [
            (name, *(f"{metrics.get(metric, float('nan')):.4g}" for metric in names))
            for name, metrics in self._rows()
        ]
        return ("", *names), cells

    def _headline(self) -> str:
        barrier = ""
        if self.parents:
            barrier = f": loss barrier {self.barrier:.4g}, {self.naive_barrier:.4g} as they came"
        return f"aligned by {self.chosen.name}{barrier}"

    def __str__(self) -> str:
        lines = [str(self.merged), self._headline()]
        if self.parents:
            lines.append(text_table(*self._table(), left=1))
        if self.repair is not None:
            lines.append(repr(self.repair))
        lines.append(f"permuted parents compute the same: relative error {self.error:.1e}")
        lines += [f"note: {note}" for note in self.notes]
        lines.append(", ".join(f"{name} {s:.2f} s" for name, s in self.seconds.items()))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table(self._headline(), *self._table())

    def __repr__(self) -> str:
        moved = [p.moved_units for p in self.permutations]
        barrier = f", barrier {self.barrier:.4g}" if self.parents else ""
        return f"MergeReport({len(moved)} models, {self.chosen.name}, moved {moved}{barrier})"


def _marked(trial: Trial, chosen: Trial) -> str:
    return f"{trial.name} *" if trial is chosen else trial.name


class MergedModule(nn.Module, metaclass=Reported):
    """A module of the user's own class that says how it was merged.

    A type for annotations and ``isinstance``; nothing is derived from it.
    """

    reports = MergeReport

    @property
    def report(self) -> MergeReport:
        """What moved, what was repaired, what each step was worth."""
        raise NotImplementedError("no module is made of this class")


def attach(report: MergeReport, module: nn.Module) -> MergedModule:
    """Have a module say, as ``module.report``, how it came about."""
    put_report(report, module)
    assert isinstance(module, MergedModule)
    return module
