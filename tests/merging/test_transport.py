"""What was learned on one base is carried over to another."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin import Block, Segment, Symmetry
from fxrebasin.errors import (
    ArchitectureMismatchError,
    InvalidArgumentError,
    UnsupportedSymmetryError,
)
from fxrebasin.symmetry.parts import AxisGroup, ParameterSymmetry

State = dict[str, Tensor]
QUIET: dict[str, Any] = {"progress": False}


class Net(nn.Module):
    """A residual stream, BatchNorm, a tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(3, 8)
        self.norm = nn.BatchNorm1d(8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        self.leave = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.enter(x))
        x = x + self.down(self.up(x).relu())
        found: Tensor = self.leave(x)
        return found


def drawn(seed: int) -> State:
    torch.manual_seed(seed)
    net = Net()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    return {n: t.clone() for n, t in net.state_dict().items()}


@cache
def symmetry() -> fr.Symmetry:
    return fr.analyze(Net(), (torch.zeros(2, 3),))


def permutation(seed: int = 0) -> fr.Permutation:
    return fr.Permutation.random(symmetry(), torch.Generator().manual_seed(seed))


def same(one: State, other: State) -> bool:
    return [*one] == [*other] and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_to_a_permuted_copy_of_the_base_it_is_exact(dtype: torch.dtype) -> None:
    base, fine_tuned = (
        {n: t.to(dtype) if t.is_floating_point() else t for n, t in drawn(k).items()}
        for k in range(2)
    )
    moving = permutation()
    carried = fr.transport(symmetry(), fine_tuned, base=base, to=moving.apply(base), **QUIET)
    assert same(carried, moving.apply(fine_tuned))


def test_to_another_base_the_difference_is_added() -> None:
    base, fine_tuned, to = (drawn(k) for k in range(3))
    moving = permutation()
    given: dict[str, Any] = {"base": base, "to": to, "permutation": moving}
    before, after = moving.apply(base), moving.apply(fine_tuned)
    for scale in (1.0, 0.25):
        carried = fr.transport(symmetry(), fine_tuned, scale=scale, **given)
        for name, tensor in carried.items():
            if name == "norm.num_batches_tracked":
                expected = to[name]
            elif name == "norm.running_var":
                expected = to[name] * after[name] / before[name]
            else:
                expected = to[name] + scale * (after[name] - before[name])
            torch.testing.assert_close(tensor, expected)


def adapter_of(weights: State, rank: int = 2, prefix: str = "base_model.model.") -> State:
    found = {}
    for name, weight in weights.items():
        module = name.removesuffix(".weight")
        found[f"{prefix}{module}.lora_A.weight"] = torch.randn(rank, weight.shape[1])
        found[f"{prefix}{module}.lora_B.weight"] = torch.randn(weight.shape[0], rank)
    return found


def test_factors_of_low_rank_move_as_their_product_does() -> None:
    base, moving = drawn(0), permutation()
    weights = {n: base[n] for n in ("enter.weight", "up.weight", "down.weight", "leave.weight")}
    for prefix in ("base_model.model.", ""):
        adapter = adapter_of(weights, prefix=prefix)
        carried = fr.transport(symmetry(), adapter, base=base, to=moving.apply(base), **QUIET)
        assert [*carried] == [*adapter]
        full = dict(base)
        for name in weights:
            stem = f"{prefix}{name.removesuffix('.weight')}"
            a, b = f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"
            full[name] = adapter[b] @ adapter[a]
            found = carried[b] @ carried[a]
            torch.testing.assert_close(found, moving.apply(full)[name])


def test_adapters_of_layers_that_store_weights_transposed() -> None:
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    found = fr.analyze(model, (), {"input_ids": torch.arange(6)[None], "use_cache": False})
    base = {n: t.clone() for n, t in model.state_dict().items()}
    moving = fr.Permutation.random(found, torch.Generator().manual_seed(0))
    block = "transformer.h.0"
    adapter: State = {}
    for module in ("attn.c_attn", "attn.c_proj", "mlp.c_fc"):
        inner, outer = base[f"{block}.{module}.weight"].shape
        adapter[f"base_model.model.{block}.{module}.lora_A.weight"] = torch.randn(2, inner)
        adapter[f"base_model.model.{block}.{module}.lora_B.weight"] = torch.randn(outer, 2)
    square = {n: t for n, t in adapter.items() if "attn.c_proj" in n}
    with pytest.raises(InvalidArgumentError, match="give that of adapter_config"):
        fr.transport(found, square, base=base, to=base, permutation=moving)
    carried = fr.transport(found, adapter, base=base, to=base, permutation=moving)
    for module in ("attn.c_attn", "attn.c_proj", "mlp.c_fc"):
        stem = f"base_model.model.{block}.{module}"
        a, b = f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"
        full = {**base, f"{block}.{module}.weight": (adapter[b] @ adapter[a]).T}
        expected = moving.apply(full)[f"{block}.{module}.weight"]
        torch.testing.assert_close((carried[b] @ carried[a]).T, expected)
    alone = fr.transport(found, square, base=base, to=base, permutation=moving, fan_in_fan_out=True)
    assert all(torch.equal(alone[n], carried[n]) for n in alone)


def test_factors_change_their_signs_and_scales() -> None:
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    found = fr.analyze(net, (torch.zeros(2, 3),))
    base = {n: t.clone() for n, t in net.state_dict().items()}
    drawn = torch.Generator().manual_seed(0)
    moving = fr.Transform.random(found, drawn, scales=True)
    assert moving.signs and moving.log_scales and not moving.matrices
    adapter = adapter_of({n: base[n] for n in ("0.weight", "2.weight", "4.weight")})
    carried = fr.transport(found, adapter, base=base, to=base, permutation=moving)
    for module in "024":
        stem = f"base_model.model.{module}"
        a, b = f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"
        full = {**base, f"{module}.weight": adapter[b] @ adapter[a]}
        expected = moving.apply(full)[f"{module}.weight"]
        torch.testing.assert_close(carried[b] @ carried[a], expected)


def test_embeddings_have_factors_the_other_way_round() -> None:
    net = nn.Sequential(nn.Embedding(7, 8), nn.ReLU(), nn.Linear(8, 2))
    found = fr.analyze(net, (torch.arange(7)[None],))
    base, moving = net.state_dict(), fr.Permutation.random(found)
    adapter = {"0.lora_embedding_A": torch.randn(2, 7), "0.lora_embedding_B": torch.randn(8, 2)}
    carried = fr.transport(found, adapter, base=base, to=base, permutation=moving)
    full = {**base, "0.weight": (adapter["0.lora_embedding_B"] @ adapter["0.lora_embedding_A"]).T}
    product = (carried["0.lora_embedding_B"] @ carried["0.lora_embedding_A"]).T
    torch.testing.assert_close(product, moving.apply(full)["0.weight"])


def test_what_does_not_belong_together_is_refused() -> None:
    base = drawn(0)
    given: dict[str, Any] = {"base": base, "to": base, **QUIET}
    with pytest.raises(ArchitectureMismatchError, match="which fine_tuned does not have"):
        fr.transport(symmetry(), {"enter.weight": base["enter.weight"]}, **given)
    odd = adapter_of({"enter.weight": base["enter.weight"]}) | {"head.weight": torch.ones(2)}
    with pytest.raises(ArchitectureMismatchError, match=r"found 'head\.weight'; take it out"):
        fr.transport(symmetry(), odd, **given)
    other = fr.analyze(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), (torch.zeros(1, 2),))
    with pytest.raises(ArchitectureMismatchError, match="found with this symmetry"):
        fr.transport(symmetry(), base, permutation=fr.Permutation.identity(other), **given)


def test_axes_that_move_together_have_no_factors() -> None:
    segment = Segment(("grid",), np.arange(12).reshape(12, 1), (-1,))
    grid = ParameterSymmetry(("grid.weight",), (3, 4), False, (AxisGroup((0, 1), (segment,)),))
    found = Symmetry({"grid": Block("grid", 12)}, (grid,))
    base = {"grid.weight": torch.randn(3, 4)}
    still = fr.Permutation.identity(found)
    with pytest.raises(UnsupportedSymmetryError, match="move together"):
        fr.transport(found, adapter_of(base), base=base, to=base, permutation=still)
