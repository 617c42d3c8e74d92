"""The kinds of blocks: those worked out by hand, held against the models by random elements."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from kinds_by_hand import CASES
from networks.registry import NETWORKS, Network
from torch import nn

import fxrebasin as fr
from fxrebasin.kinds.checking import error_under_elements

PRECISE = 1e-12


@pytest.mark.parametrize("name", CASES)
def test_kinds_worked_out_by_hand(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    model, inputs = case.make(), case.inputs()
    symmetry = fr.analyze(model, inputs)
    found = [symmetry.kinds.of(block.name).describe(block.size) for block in symmetry]
    assert sorted(found) == sorted(case.kinds)
    assert error_under_elements(model, inputs, symmetry=symmetry) < 10 * PRECISE


@pytest.mark.slow
@pytest.mark.parametrize("net", NETWORKS.values(), ids=list(NETWORKS))
def test_elements_of_the_whole_group_keep_what_networks_compute(net: Network) -> None:
    torch.manual_seed(0)
    model, inputs = net.factory(), net.inputs(2)
    symmetry = fr.analyze(model, inputs, check=False)
    for seed in range(2):
        error = error_under_elements(model, inputs, symmetry=symmetry, seed=seed)
        assert error < PRECISE, seed


def test_units_with_others_inside_are_not_mixed() -> None:
    """Rotations of the rows of a Gram matrix are no group together with what acts inside rows."""
    network = NETWORKS["gram_matrix_of_columns_repeated"]
    torch.manual_seed(0)
    symmetry = fr.analyze(network.factory(), network.inputs(2), check=False)
    outer, inner = (symmetry.kinds.of(b.name) for b in symmetry)
    assert (outer.kind.name, inner.kind.name) == ("S", "GL|1")
    assert [str(cap) for cap in outer.caps] == ["what is nested inside allows S"]


def test_elements_that_are_too_large_are_seen() -> None:
    """The test above could fail: tanh does not respect scales."""
    model, x = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), torch.randn(4, 3)
    scaled = fr.analyze(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), (x,))
    assert error_under_elements(model, (x,), symmetry=scaled) > 1e-3


def test_what_has_capped_a_block_is_said() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    symmetry = fr.analyze(model, (torch.zeros(1, 3),))
    text = str(symmetry.explain("0.weight", 0))
    assert "moves with block 0.weight[0] (5 units), of the kind signed S(5)" in text
    assert "tanh allows signed S (at _1)" in text
    assert "signed S(5)" in str(symmetry)
    assert "<td>signed S(5)</td>" in symmetry._repr_html_()


def test_what_has_a_rule_of_its_own_permutes_only() -> None:
    """A signature says nothing of linearity."""
    model = nn.Sequential(nn.Linear(3, 5), nn.Hardtanh(), nn.Linear(5, 2))
    rules = {nn.Hardtanh: "... c -> ... c"}
    symmetry = fr.analyze(model, (torch.zeros(1, 3),), rules=rules)
    (kind,) = symmetry.kinds.blocks.values()
    assert kind.kind.name == "S"
    assert [cap.op for cap in kind.caps] == ["what is not followed"]


def test_units_of_outputs_that_are_free_permute_only() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 4))
    symmetry = fr.analyze(model, (torch.zeros(1, 3),), free_outputs=True)
    found = {block.size: symmetry.kinds.of(block.name).kind.name for block in symmetry}
    assert found == {5: "GL", 4: "S"}


def test_what_is_written_through_a_view_permutes_only() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.enter(x)
            h[:, None].tanh_()
            return self.leave(h)

    x = torch.randn(2, 3)
    model = Written()
    symmetry = fr.analyze(model, (x,))
    assert [kind.kind.name for kind in symmetry.kinds.blocks.values()] == ["S"]
    assert error_under_elements(model, (x,), symmetry=symmetry) < PRECISE


def test_what_is_written_to_a_part_of_a_tensor_reaches_the_whole() -> None:
    """What the tensor held before is in it still, though no op was seen to put it there."""

    class Overwritten(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = nn.Linear(3, 8), nn.Linear(8, 2)
            self.norm = nn.LayerNorm(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.enter(x).clone()
            h[:, 2:5] = 0
            return self.leave(self.norm(h))

    x = torch.randn(2, 3)
    model = Overwritten()
    symmetry = fr.analyze(model, (x,))
    kinds = {block.size: symmetry.kinds.of(block.name) for block in symmetry}
    assert {size: kind.kind.name for size, kind in kinds.items()} == {5: "monomial", 3: "S"}
    assert kinds[5].scales == 1  # of the weights of the norm and of what reads them
    assert error_under_elements(model, (x,), symmetry=symmetry) < PRECISE


def test_json_keeps_kinds_and_older_text_has_none() -> None:
    case = CASES["GPT"]
    symmetry = fr.analyze(case.make(), case.inputs())
    read = fr.Symmetry.from_json(symmetry.to_json())
    assert read.kinds == symmetry.kinds
    assert read == symmetry
    bare = fr.Symmetry(symmetry.blocks, symmetry.parameters)
    again = fr.Symmetry.from_json(bare.to_json())
    assert not again.kinds.blocks
    assert again.kinds.of(next(iter(again.blocks))).kind.name == "S"


def test_copies_and_pickles_know_the_kinds() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    symmetry = fr.analyze(model, (torch.zeros(1, 3),))
    assert copy.deepcopy(symmetry).kinds == symmetry.kinds
    assert pickle.loads(pickle.dumps(symmetry)).kinds == symmetry.kinds
