"""The whole group: planted elements are found again, and aligned models compute what they did."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from kinds_by_hand import CASES
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import InvalidArgumentError
from fxrebasin.matching.transforms.acting import value_at
from fxrebasin.models.precision import to_double
from fxrebasin.objectives import weights
from fxrebasin.objectives.streams import rotated_streams
from fxrebasin.verification.random_weights import disturb

torch.set_num_threads(1)

State = dict[str, Tensor]
PLANTED = [name for name in CASES if name != "linear"]
"""Of linear layers alone, units that nobody reads have no least norm."""
MIXED = ["GPT", "ViT", "Llama", "grouped queries", "an encoder layer, norms first"]


def canonical(name: str, seed: int = 0) -> tuple[fr.Symmetry, nn.Module, State]:
    torch.manual_seed(0)
    model = CASES[name].make()
    symmetry = fr.analyze(model, CASES[name].inputs())
    model = to_double(model).eval()
    disturb(model, seed, [p.name for p in symmetry.parameters if p.groups])
    return symmetry, model, fr.canonicalise(symmetry, model.state_dict())


def distance(one: State, other: State) -> float:
    """As a share of the norm, over all that is of floating point."""
    names = [n for n, t in one.items() if t.is_floating_point()]
    apart = sum(float((one[n] - other[n]).square().sum()) for n in names)
    return (apart / sum(float(one[n].square().sum()) for n in names)) ** 0.5


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_element_of_the_whole_group_is_found_again(name: str) -> None:
    symmetry, _, a = canonical(name)
    drawn = fr.Transform.random(symmetry, torch.Generator().manual_seed(1))
    b = fr.canonicalise(symmetry, drawn.apply(a))
    found = fr.match(symmetry, b, to=a, group="linear", progress=False)
    assert distance(a, found.apply(b)) < 1e-5


@pytest.mark.parametrize("name", MIXED)
def test_the_objective_is_what_is_said_and_never_falls(name: str) -> None:
    symmetry, _, a = canonical(name)
    b = canonical(name, 5)[2]
    objective = weights(symmetry, b, a).over("linear")
    start = fr.Permutation.identity(symmetry)
    found = fr.solvers.coordinate_descent(objective, start=start, progress=False)
    values = [found.objective_before, *found.history]
    assert all(after >= before for before, after in pairwise(values))
    assert found.objective_after == pytest.approx(value_at(objective, found.permutation))
    placed = fr.solvers.coordinate_descent(objective, progress=False)
    plain = fr.solvers.coordinate_descent(objective.over("permutations"), progress=False)
    assert max(found.objective_after, placed.objective_after) > plain.objective_after
    longer = fr.solvers.coordinate_descent(objective, budget=fr.Budget(rounds=2), progress=False)
    assert longer.objective_after >= placed.objective_after


def test_what_is_kept_stays() -> None:
    symmetry, _, a = canonical("GPT")
    b = canonical("GPT", 5)[2]
    stream = next(b.name for b in symmetry if b.size == 12)
    objective = weights(symmetry, b, a).over("linear").keeping([stream])
    found = fr.solvers.coordinate_descent(objective, progress=False).permutation
    assert stream not in found.matrices and found.matrices
    alone = objective.over("permutations").keeping([x.name for x in symmetry])
    assert fr.solvers.coordinate_descent(alone, progress=False).permutation.is_identity


def test_streams_are_rotated_by_what_models_compute() -> None:
    symmetry, model, a = canonical("ViT")
    model.load_state_dict(a)
    drawn = fr.Transform.random(symmetry, torch.Generator().manual_seed(1))
    other = fr.canonicalise(symmetry, drawn.apply_to(model))
    x = torch.randn(64, 4, 9, dtype=torch.float64)
    found = rotated_streams(symmetry, other, model, (x,), {})
    assert found is not None and len(found.matrices) == 1
    (stream,) = found.matrices
    back = found.matrices[stream] @ drawn.matrices[stream]
    assert torch.allclose(back[0], torch.eye(12, dtype=torch.float64), atol=1e-6)
    assert rotated_streams(symmetry, other, model, (x[:8],), {}) is None


@pytest.mark.parametrize("examples", [4, 64])
def test_a_module_is_rotated_and_computes_the_same(examples: int) -> None:
    torch.manual_seed(0)
    a, b = (CASES["ViT"].make().eval() for _ in "ab")
    x = torch.randn(examples, 4, 9)
    with torch.no_grad():
        for model in (a, b):
            for norm in (m for m in model.modules() if isinstance(m, nn.LayerNorm)):
                norm.weight.uniform_(0.5, 2)
        before = b(x), a(x)
    options: dict[str, Any] = {"to": a, "args": (x,), "group": "linear", "progress": False}
    aligned = fr.rebasin(b, **options)
    reference = aligned.report.reference
    assert reference is not None and type(reference) is type(a)
    assert torch.allclose(aligned(x), before[0], atol=1e-4)
    assert torch.allclose(reference(x), before[1], atol=1e-4)
    assert list(aligned.state_dict()) == list(b.state_dict())
    assert aligned.report.permutation.matrices
    by = "activations, then weights" if examples == 64 else "aligned by weights"
    assert "report.reference" in str(aligned.report) and by in str(aligned.report)
    apart = distance(dict(reference.state_dict()), dict(aligned.state_dict()))
    symmetry = aligned.report.symmetry
    other = fr.canonicalise(symmetry, b.state_dict())
    assert apart < distance(dict(reference.state_dict()), other)
    inside = fr.rebasin(b, **options, inplace=True)
    assert torch.allclose(inside(x), before[0], atol=1e-4)
    assert distance(dict(b.state_dict()), dict(aligned.state_dict())) < 1e-5


def test_that_rotations_are_possible_is_said_where_kinds_are_known() -> None:
    model = CASES["ViT"].make().eval()
    x = CASES["ViT"].inputs()
    symmetry = fr.analyze(model, x)
    options: dict[str, Any] = {"to": model, "args": x, "symmetry": symmetry, "progress": False}
    assert "rotated" not in str(fr.rebasin(model, **options).report)
    assert symmetry.kinds.blocks
    assert "3 blocks could be rotated as well" in str(fr.rebasin(model, **options).report)


def test_what_cannot_be_rotated_is_refused() -> None:
    symmetry, model, a = canonical("ViT")
    with pytest.raises(InvalidArgumentError, match=r"group: expected 'permutations'"):
        fr.match(symmetry, a, to=a, group="rotations", progress=False)  # type: ignore[arg-type]
    x = CASES["ViT"].inputs()
    seen = fr.objectives.activations(symmetry, model, model, tuple(t.double() for t in x))
    with pytest.raises(InvalidArgumentError, match="activation matching does not know how"):
        seen.over("linear")
    objective = weights(symmetry, a, a).over("linear")
    with pytest.raises(InvalidArgumentError, match="bound: expected False"):
        fr.solvers.coordinate_descent(objective, bound=True, progress=False)
