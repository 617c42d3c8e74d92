"""The members of ANI-1x in pairs: how far are the energies of their mean from the ensemble's?

The four networks of a potential, one per element, do not meet before their energies are summed: so
one may choose among several alignments for each of them apart. What is chosen is what is best on
the training molecules; what is told is the error on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

import fxrebasin as fr
from benchmarks.measuring.reporting import markdown_table
from benchmarks.merging.ani import Potential, energies, read_members
from benchmarks.merging.ani_objectives import KINDS, mixture
from benchmarks.merging.lines import State, half_way, with_state
from benchmarks.merging.molecules import (
    ELEMENTS,
    Environments,
    Molecule,
    environments,
    molecules,
    shaken,
)
from benchmarks.merging.plots import draw_dots
from benchmarks.merging.rows import Results, Row, by_method, networks_of
from fxrebasin.drawing.figures import save_figure

STUDY = "ani"
PAIRS = ((0, 1), (2, 3), (4, 5))
HELD_OUT = 20
"""Molecules on which nothing is chosen or measured but the error."""
WIDTHS = (0.04, 0.08, 0.12)
"""By how many Angstrom coordinates are shaken; held-out molecules by the middle one."""
SHAKES = (4, 24)
"""How often, per width, training molecules and held-out ones are shaken."""
MIXTURES = 20
"""Random mixtures of objectives, beside the pure ones."""
HEADER = (
    "members",
    "alignment",
    "half way",
    "REPAIR",
    "REPAIR and last layer",
    "chosen of the three",
)
TREATMENTS = HEADER[2:5]


class Split(NamedTuple):
    """Shaken molecules: those that choices are made by, and others."""

    train: Environments
    test: Environments


class Candidate(NamedTuple):
    """A merged potential, and the energies of all molecules, per element."""

    model: nn.Module
    train: Tensor
    test: Tensor


@cache
def split() -> Split:
    """Training molecules are all with unpaired electrons and two thirds of the others.

    Raises:
        UnavailableError: the molecules cannot be had.
    """
    generator = torch.Generator().manual_seed(0)
    known = molecules()
    paired = [m for m in known if m.closed_shell]
    order = torch.randperm(len(paired), generator=generator).tolist()
    test = [paired[k] for k in order[-HELD_OUT:]]
    train = [m for m in known if not m.closed_shell] + [paired[k] for k in order[:-HELD_OUT]]

    def often(given: list[Molecule], widths: Sequence[float], times: int) -> Environments:
        return environments(
            [shaken(m, width, generator) for m in given for width in widths for _ in range(times)]
        )

    return Split(often(train, WIDTHS, SHAKES[0]), often(test, WIDTHS[1:2], SHAKES[1]))


def objectives(seen: Environments) -> dict[str, fr.objectives.Objective]:
    """Pure ones, and mixtures with random shares."""
    generator = np.random.default_rng(0)
    shares = {kind: {kind: 1.0} for kind in KINDS}
    for k in range(MIXTURES):
        drawn = generator.dirichlet([0.5] * len(KINDS))
        shares[f"mixture {k}"] = dict(zip(KINDS, drawn.tolist(), strict=True))
    return {name: partial(mixture, seen=seen, shares=shared) for name, shared in shares.items()}


def alignments(a: State, b: State) -> dict[str, State]:
    """B aligned with A by every objective."""
    symmetry = symmetry_of_potentials()
    found = {"as trained": b}
    permutations = {}
    for name, objective in tqdm(objectives(split().train).items(), desc="align", leave=False):
        permutations[name] = fr.match(symmetry, b, to=a, objective=objective, progress=False)
        found[name] = permutations[name].apply(b)
    start = permutations["activations"]
    again = fr.weight_matching(symmetry, b, to=a, start=start, progress=False)
    return {**found, "weights from activations": again.permutation.apply(b)}


@cache
def symmetry_of_potentials() -> fr.Symmetry:
    inputs = tuple(x[:2] for x in split().train.vectors)
    return fr.analyze(Potential().eval(), args=inputs)


def repaired(model: nn.Module, parents: Sequence[nn.Module]) -> nn.Module:
    """With the statistics of the parents in all hidden layers."""
    seen = split().train
    return fr.repair(
        model,
        like=parents,
        data=[seen.vectors],
        inputs=lambda vectors: vectors,
        sequential=True,
        progress=False,
    )


@torch.no_grad()
def calibrated(model: nn.Module, parents: Sequence[nn.Module]) -> nn.Module:
    """With the mean and deviation of the parents' atomic energies as well, per element."""
    seen = split().train
    given = [parent(*seen.vectors) for parent in parents]
    model = with_state(Potential(), model.state_dict())
    for row, (element, made) in enumerate(zip(ELEMENTS, model(*seen.vectors), strict=True)):
        wanted = [energy[row] for energy in given]
        mean = torch.stack([x.mean() for x in wanted]).mean()
        factor = torch.stack([x.std() for x in wanted]).mean() / made.std()
        last = list(model.get_submodule(element).children())[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(factor)
        last.bias.copy_((last.bias - made.mean()) * factor + mean)
    return model


def candidate(model: nn.Module) -> Candidate:
    train, test = split()
    return Candidate(model, energies(model, train), energies(model, test))


def treated(a: nn.Module, b: State) -> dict[str, Candidate]:
    """The middle of A and aligned B, as it is and with its statistics put right."""
    parents = [a, with_state(a, b)]
    middle = half_way(a, b)
    right = repaired(middle, parents)
    models = (middle, right, calibrated(right, parents))
    return dict(zip(TREATMENTS, map(candidate, models), strict=True))


class Goal(NamedTuple):
    """The ensemble's energies, ``(molecules,)``."""

    train: Tensor
    test: Tensor

    def errors(self, found: Candidate) -> tuple[float, float]:
        """Mean absolute errors in kcal/mol, on training and on held-out molecules."""
        pairs = ((found.train, self.train), (found.test, self.test))
        train, test = ((energy.sum(0) - goal).abs().mean().item() for energy, goal in pairs)
        return train, test


def goal(members: Sequence[nn.Module]) -> Goal:
    found = [candidate(member) for member in members]
    train, test = (
        torch.stack([getattr(x, part).sum(0) for x in found]).mean(0) for part in ("train", "test")
    )
    return Goal(train, test)


def best_per_element(candidates: Sequence[Candidate], goal: Goal) -> Candidate:
    """Networks of several candidates, one per element, whose energies fit together on the training
    molecules: begun with the best whole one, and exchanged until no exchange is better."""
    energy = torch.stack([c.train for c in candidates])
    whole = (energy.sum(1) - goal.train).abs().mean(1)
    chosen = [int(whole.argmin())] * len(ELEMENTS)
    lowest, before = float(whole.min()), float("inf")
    while lowest < before:
        before = lowest
        for row in range(len(ELEMENTS)):
            others = sum(energy[chosen[r], r] for r in range(len(ELEMENTS)) if r != row)
            errors = (energy[:, row] + others - goal.train).abs().mean(1)
            if float(errors.min()) < lowest:
                chosen[row], lowest = int(errors.argmin()), float(errors.min())
    state = {
        name: tensor
        for element, k in zip(ELEMENTS, chosen, strict=True)
        for name, tensor in candidates[k].model.state_dict().items()
        if name.startswith(f"{element}.")
    }
    return candidate(with_state(Potential(), state))


def run(results: Results) -> None:
    """Measure what is missing.

    Raises:
        UnavailableError: the members or the molecules cannot be had.
    """
    members = read_members()
    target = goal(members)
    for one, other in tqdm(PAIRS, desc="ANI-1x", unit="pair"):
        network = f"{one} and {other}"
        if results.has(STUDY, network, CHOICES[-1]):
            continue
        a, b = members[one], members[other]
        errors = [target.errors(candidate(parent)) for parent in (a, b)]
        _add(results, network, "parents", {"half way": (_mean(errors, 0), _mean(errors, 1))})
        found: dict[str, dict[str, Candidate]] = {}
        for name, state in tqdm(alignments(a.state_dict(), b.state_dict()).items(), desc="merge"):
            found[name] = treated(a, state)
        for name, models in found.items():
            _add(results, network, name, {t: target.errors(m) for t, m in models.items()})
        searched = {name: models for name, models in found.items() if name != "as trained"}
        for name, choose in zip(CHOICES, (_best_whole, best_per_element), strict=True):
            sets = {t: [models[t] for models in searched.values()] for t in TREATMENTS}
            sets["chosen of the three"] = [
                m for models in searched.values() for m in models.values()
            ]
            _add(
                results,
                network,
                name,
                {t: target.errors(choose(s, target)) for t, s in sets.items()},
            )


CHOICES = ("chosen of all", "chosen of all, per element")


def _best_whole(candidates: Sequence[Candidate], goal: Goal) -> Candidate:
    return min(candidates, key=lambda c: goal.errors(c)[0])


def _mean(errors: Sequence[tuple[float, float]], part: int) -> float:
    return sum(e[part] for e in errors) / len(errors)


def _add(
    results: Results, network: str, method: str, errors: dict[str, tuple[float, float]]
) -> None:
    figures = {}
    for treatment, (train, test) in errors.items():
        figures[f"{treatment}, training"] = train
        figures[treatment] = test
    results.add(STUDY, network, method, figures)


SHOWN = ("parents", "as trained", *KINDS, "weights from activations", *CHOICES)


def section(rows: Sequence[Row]) -> str:
    cells = []
    for network in networks_of(rows):
        found = by_method(rows, network)
        for method in SHOWN:
            if method in found:
                figures = found[method][0].figures
                cells.append(
                    (
                        network,
                        method,
                        *(f"{figures[t]:.2f}" if t in figures else "" for t in HEADER[2:]),
                    )
                )
    return (
        "## The ensemble ANI-1x\n\n"
        "Energies of the middle of two members, against the mean of all eight members: mean "
        f"absolute errors in kcal/mol, on {HELD_OUT} molecules of the G2 set, each shaken "
        f"{SHAKES[1]} times by {WIDTHS[1]} Angstrom. All that is measured or chosen, is so on the "
        f"other molecules of that set, radicals among them, shaken by {WIDTHS[0]} to {WIDTHS[-1]} "
        "Angstrom. Weights, activations (their correlations), sums (covariances of what units "
        "take), slopes (covariances of the energy's slopes by that): what B is aligned with A by. "
        f"Chosen: of these four and {MIXTURES} random mixtures of them, that with the least error "
        "on the training molecules; per element: the four networks, which only meet in the sum of "
        "energies, are chosen apart. REPAIR: `fr.repair`, layer after layer. Last layer: mean and "
        "deviation of atomic energies as well.\n\n"
        "![Errors of the middle of two members](ani.png)\n\n"
        f"{markdown_table(HEADER, cells)}\n"
    )


def draw(rows: Sequence[Row], folder: Path) -> None:
    groups = {}
    for network in networks_of(rows):
        found = by_method(rows, network)
        groups[f"members {network}"] = {
            method: {t: figures[t] for t in HEADER[2:] if t in figures}
            for method in SHOWN
            if method in found
            for figures in [found[method][0].figures]
        }
    figure = draw_dots(groups, x="error on held-out molecules (kcal/mol)")
    save_figure(figure, folder / "ani.png")
