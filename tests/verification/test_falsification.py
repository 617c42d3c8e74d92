"""A wrong group is refuted, block by block; a right one is not."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

import fxrebasin as fr
from fxrebasin import Block, Segment, Symmetry
from fxrebasin.errors import RefutedWarning
from fxrebasin.passes import Falsify, Propagate, Refine, Trace
from fxrebasin.passes.state import state_of
from fxrebasin.symmetry.parts import AxisGroup
from fxrebasin.verification import trials
from fxrebasin.verification.falsification import ROUNDS, falsify, find_offenders
from fxrebasin.verification.trials import prepare_trials

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.scale, self.leave = nn.Parameter(torch.ones(6)), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.two(self.one(x).relu()).relu()
        return self.leave(self.three(h).relu() * self.scale)


class Skipping(Chain):
    """The same parameters, but two of them meet."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x).relu()
        h = self.two(h).relu() + h
        return self.leave(self.three(h).relu() * self.scale)


def names(blocks: list[Block]) -> list[str]:
    return [block.name for block in blocks]


def tried(model: nn.Module, symmetry: Symmetry, *, random_weights: bool = True) -> list[str]:
    found = prepare_trials(model, (X,), {}, random_weights=random_weights)
    assert found
    return names(find_offenders(symmetry, found))


def test_a_right_group_is_not_refuted() -> None:
    for model in (Chain(), Skipping()):
        assert tried(model, fr.analyze(model, (X,), check=False)) == []


def test_the_blocks_that_are_wrong_are_found_and_no_others() -> None:
    wrong = fr.analyze(Chain(), (X,), check=False)
    assert names(list(wrong)) == ["scale[0]", "one.weight[0]", "two.weight[0]"]
    assert tried(Skipping(), wrong) == ["one.weight[0]", "two.weight[0]"]


def test_equal_weights_hide_nothing() -> None:
    """A scale of ones does not show whether it is moved; a disturbed one does."""
    model = Chain()
    right = fr.analyze(model, (X,), check=False)
    parameters = tuple(replace(p, groups=()) if p.name == "scale" else p for p in right.parameters)
    wrong = replace(right, parameters=parameters)
    assert tried(model, wrong, random_weights=False) == []
    assert tried(model, wrong) == ["scale[0]"]


def test_inputs_of_zeros_hide_nothing() -> None:
    wrong = fr.analyze(Chain(), (X,), check=False)
    found = prepare_trials(Skipping(), (torch.zeros(4, 3),), {}, random_weights=True)
    assert names(find_offenders(wrong, found)) == ["one.weight[0]", "two.weight[0]"]


def without(symmetry: Symmetry, blocks: Sequence[str]) -> Symmetry:
    kept = [fr.pin(*b.axes[0]) for b in symmetry if b.name in blocks]
    return fr.analyze(Chain(), (X,), check=False, constraints=kept)


def test_what_is_refuted_is_pinned_and_what_is_left_is_tested_again() -> None:
    wrong = fr.analyze(Chain(), (X,), check=False)
    pinned: list[list[str]] = []

    def pin(blocks: Sequence[str]) -> Symmetry:
        pinned.append([*blocks])
        return without(wrong, blocks)

    found = falsify(wrong, pin, Skipping(), (X,), {})
    assert pinned == [["one.weight[0]", "two.weight[0]"]]
    assert found.refuted == ("one.weight[0]", "two.weight[0]")
    assert names(list(found.symmetry)) == ["scale[0]"]
    assert found.was_tested


def test_a_right_group_is_left_as_it_is() -> None:
    right = fr.analyze(Skipping(), (X,), check=False)
    found = falsify(right, lambda _: pytest.fail("nothing is to be pinned"), Skipping(), (X,), {})
    assert found.symmetry is right
    assert found.refuted == ()


def test_where_pinning_does_not_help_everything_is_pinned_in_the_end() -> None:
    wrong = fr.analyze(Chain(), (X,), check=False)
    pinned: list[Sequence[str]] = []

    def pin(blocks: Sequence[str]) -> Symmetry:
        pinned.append(blocks)
        return without(wrong, blocks) if len(blocks) == 3 else wrong

    found = falsify(wrong, pin, Skipping(), (X,), {})
    assert len(pinned) == ROUNDS + 1
    assert list(found.symmetry) == []


def test_a_group_that_cannot_be_tested_is_left_as_it_is() -> None:
    wrong = fr.analyze(Chain(), (X,), check=False)
    found = falsify(wrong, lambda _: wrong, OnlyOnItsOwnWeights(), (X,), {})
    assert found.symmetry is wrong
    assert not found.was_tested


class Cyclic(nn.Module):
    """Shifts of the five units change nothing; exchanging two does."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 5), nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        return self.leave((h * h.roll(1, 1)).sum(1, keepdim=True))


def test_a_group_that_is_too_large_is_refuted_even_if_its_cycles_are_right() -> None:
    segment = Segment(("all",), np.arange(5)[:, None], (-1,))
    parameters = tuple(
        replace(p, groups=(AxisGroup((0,), (segment,)),)) if p.name.startswith("enter") else p
        for p in fr.analyze(
            Cyclic(), (X,), check=False, constraints=[fr.pin("enter.weight", 0)]
        ).parameters
    )
    claimed = Symmetry({"all": Block("all", 5)}, parameters)
    (trial,) = prepare_trials(Cyclic(), (X,), {}, random_weights=True)
    shift = fr.Permutation(claimed, {"all": np.roll(np.arange(5), 1)[None]})
    assert not trial.refutes(shift)
    assert names(find_offenders(claimed, [trial])) == ["all"]


def test_large_models_are_tried_in_their_own_dtype_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "DOUBLE", 10)
    found = prepare_trials(Chain(), (X,), {}, random_weights=True)
    assert [t.outputs[0].dtype for t in found] == [torch.float32, torch.float64]
    assert [t.tolerance for t in found] == [1e-4, 1e-9]
    wrong = fr.analyze(Chain(), (X,), check=False)
    assert names(
        find_offenders(wrong, prepare_trials(Skipping(), (X,), {}, random_weights=True))
    ) == [
        "one.weight[0]",
        "two.weight[0]",
    ]


class OnlyFloat(Chain):
    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise TypeError("float32 only")
        return super().forward(x)


def test_models_that_do_not_run_in_double_are_tried_in_float() -> None:
    (trial,) = prepare_trials(OnlyFloat(), (X,), {}, random_weights=True)
    assert trial.outputs[0].dtype == torch.float32
    assert fr.analyze(OnlyFloat(), (X,), front_ends=["eager"]).movable_units == 18


class OnlyOnItsOwnWeights(Chain):
    """Has compiled itself for the memory that its weights lie in."""

    def __init__(self) -> None:
        super().__init__()
        self.address = self.one.weight.data_ptr()

    def forward(self, x: Tensor) -> Tensor:
        if self.one.weight.data_ptr() != self.address:
            raise RuntimeError("other weights")
        return super().forward(x)


def test_what_could_not_be_tested_is_noted() -> None:
    symmetry = fr.analyze(OnlyOnItsOwnWeights(), (X,), front_ends=["eager"])
    assert any("was not tested" in note for note in symmetry.notes)


def propagated(model: nn.Module) -> fx.GraphModule:
    module: Any = model
    for step in (Trace(), Propagate((X,))):
        result = step(module)
        assert result is not None
        module = result.graph_module
    assert isinstance(module, fx.GraphModule)
    return module


def test_the_pass_pins_what_is_refuted_and_says_so() -> None:
    model = Skipping()
    module, other = propagated(model), propagated(Chain())
    state = state_of(module)
    state.facts = state_of(other).facts
    Refine()(module)
    kept = copy.deepcopy(model.state_dict())
    with pytest.warns(RefutedWarning, match="2 blocks were refuted by a test and pinned: one.weig"):
        Falsify((X,))(module)
    assert state.symmetry is not None
    assert names(list(state.symmetry)) == ["scale[0]"]
    assert state.symmetry.notes[-1].startswith("2 blocks were refuted")
    reasons = {p.reason for p in state.symmetry.pinned if p.parameter == "one.weight"}
    assert "was refuted by a test on random weights" in reasons
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())
