"""The ways in which B is aligned with A: from a pair to both networks, in one gauge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.merging.lines import AtPoint
from benchmarks.transformers.glmc import glmc
from benchmarks.transformers.networks import Transformer
from benchmarks.transformers.training import TRANSFORMERS, Setting
from fxrebasin.symmetry.transform import Subgroup

Batch = tuple[Tensor, Tensor]
STEPS = (25, 50, 100, 200)
"""Of learning."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two networks of one setting, and what is computed of them once."""

    setting: Setting
    a: nn.Module
    b: nn.Module
    seed: int

    @cached_property
    def symmetry(self) -> fr.Symmetry:
        return fr.analyze(self.b, args=(self.watched[:2],))

    @cached_property
    def watched(self) -> Tensor:
        """What activations are compared on."""
        return self.setting.load().train.images[: self.setting.watched]

    @cached_property
    def canonical(self) -> Pair:
        """The same networks, with norms absorbed, streams centred and heads balanced."""
        a, b = (fr.canonicalise(self.symmetry, m) for m in (self.a, self.b))
        return Pair(self.setting, a, b, self.seed)

    @cached_property
    def rotated(self) -> nn.Module:
        """B, all of it aligned by activations."""
        found = _matching(self.canonical, self.symmetry, "activations", "linear")
        return found.permutation.apply_to(self.canonical.b)

    def batches(self, steps: int) -> list[Batch]:
        """Random ones to learn from, of what the networks were trained on."""
        data = self.setting.load().train
        generator = torch.Generator().manual_seed(self.seed)
        size = (steps, self.setting.batch)
        chosen = torch.randint(self.setting.windows, size, generator=generator)
        return [(data.images[index], data.labels[index]) for index in chosen]


Models = tuple[nn.Module, nn.Module]
Method = Callable[[Pair], Models]


def as_trained(pair: Pair) -> Models:
    return pair.a, pair.b


def aligned(pair: Pair, *, by: str, group: Subgroup) -> Models:
    """What the library does, by weights or by activations."""
    of = pair.canonical if group == "linear" else pair
    if (by, group) == ("activations", "linear"):
        return of.a, pair.rotated
    return of.a, _matching(of, pair.symmetry, by, group).permutation.apply_to(of.b)


def _matching(pair: Pair, symmetry: fr.Symmetry, by: str, group: Subgroup) -> fr.Alignment:
    if by == "weights":
        state, to = pair.b.state_dict(), pair.a.state_dict()
        return fr.weight_matching(
            symmetry, state, to=to, group=group, seed=pair.seed, progress=False
        )
    return fr.activation_matching(
        pair.b,
        to=pair.a,
        args=(pair.watched,),
        symmetry=symmetry,
        group=group,
        seed=pair.seed,
        progress=False,
    )


def by_rebasin(pair: Pair, *, steps: int = 0) -> Models:
    """The stream by activations, all else by weights; and perhaps learned from there."""
    found = fr.rebasin(
        pair.b,
        to=pair.a,
        args=(pair.watched,),
        symmetry=pair.symmetry,
        group="linear",
        seed=pair.seed,
        progress=False,
    )
    assert found.report.reference is not None
    if not steps:
        return found.report.reference, found
    batches = pair.batches(steps)
    better = fr.refine(found, batches, loss, steps=steps, seed=pair.seed, progress=False)
    return found.report.reference, better


def by_glmc(pair: Pair) -> Models:
    a, b = pair.canonical.a, pair.canonical.b
    assert isinstance(a, Transformer) and isinstance(b, Transformer)
    return glmc(a, b)


def refined(pair: Pair, *, steps: int, from_identity: bool = False) -> Models:
    """Rotated by activations, and learned from there; or learned from where B is."""
    start = pair.canonical.b if from_identity else pair.rotated
    better = fr.refine(
        start,
        pair.batches(steps),
        loss,
        to=pair.canonical.a,
        symmetry=pair.symmetry,
        steps=steps,
        seed=pair.seed,
        progress=False,
    )
    return pair.canonical.a, better


def loss(model: nn.Module, batch: Batch) -> Tensor:
    inputs, labels = batch
    return F.cross_entropy(model(inputs).flatten(0, -2), labels.flatten())


PERMUTED: dict[str, Method] = {
    "as trained": as_trained,
    "permutations, by weights": partial(aligned, by="weights", group="permutations"),
    "permutations, by activations": partial(aligned, by="activations", group="permutations"),
}
SIGNED: dict[str, Method] = {
    "and signs, by weights": partial(aligned, by="weights", group="signed"),
    "and signs, by activations": partial(aligned, by="activations", group="signed"),
}
ROTATED: dict[str, Method] = {
    "GLMC, by weights (another architecture)": by_glmc,
    "rotations, by weights": partial(aligned, by="weights", group="linear"),
    "rotations, by activations": partial(aligned, by="activations", group="linear"),
}
LEARNED: dict[str, Method] = {
    **{f"and learned, {n} steps": partial(refined, steps=n) for n in STEPS},
    "learned from as trained, 200 steps": partial(refined, steps=200, from_identity=True),
}
FEWER: dict[str, Method] = {
    name: method for name, method in LEARNED.items() if name == f"and learned, {STEPS[-1]} steps"
}
"""What is learned of all pairs but the first."""
BY_REBASIN: dict[str, Method] = {
    "rotations, as rebasin finds them": by_rebasin,
    "as rebasin finds them, and learned, 200 steps": partial(by_rebasin, steps=200),
}


REPAIRED = " + REPAIR"
"""At the end of the name of a method, after which every point of the line is repaired."""


def repairing(pair: Pair, models: Models) -> AtPoint:
    """What repairs the network at a point of the line between two."""
    data = [pair.watched]  # of the shape that an exported graph takes

    def repair(model: nn.Module, t: float) -> nn.Module:
        shares = (1 - t, t)
        return fr.repair(model, like=models, data=data, weights=shares, progress=False)

    return repair


def methods_for(setting: Setting, number: int) -> dict[str, Method]:
    """The methods that make a difference to networks of a setting, for the pair of a number."""
    if setting in TRANSFORMERS:
        learned = FEWER if number else LEARNED
        found = {**PERMUTED, **ROTATED, **learned, **BY_REBASIN}
    else:
        found = {**PERMUTED, **SIGNED} if "Tanh" in setting.name else PERMUTED
    named = (
        "permutations, by weights",
        "and signs, by weights",
        "rotations, as rebasin finds them",
    )
    return found | {name + REPAIRED: found[name] for name in named if name in found}
