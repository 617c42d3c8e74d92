"""The symmetry groups of the tiny transformers of the benchmarks, each worked out by hand."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import fxrebasin as fr
from benchmarks.measuring.double_precision import run_in_double_precision
from benchmarks.measuring.random_weights import difference, randomise

transformers = pytest.importorskip("transformers", reason="the models are those of transformers")

from benchmarks.coverage.tiny_transformers import ARCHITECTURES  # noqa: E402
from benchmarks.coverage.tiny_transformers.models import Architecture  # noqa: E402

QUICK = {"bert", "bloom", "clip", "detr", "gpt_neox", "llama", "mamba", "mixtral", "swin", "t5"}
"""One of every kind; the others are slow together."""

INERT = ("k_proj.bias", "key.bias", "k_lin.bias", "key_proj.bias")
"""A softmax over keys does not see what is added to all of them alike."""


INCOMPLETE = {"stablelm": "angles of half a head are state, which pins heads of the second layer"}
"""Why less is found than there is."""


def cases(wrong: Mapping[str, str] = MappingProxyType({})) -> list[Any]:
    return [
        pytest.param(
            a,
            id=a.name,
            marks=[
                *([] if a.name in QUICK else [pytest.mark.slow]),
                *(
                    [pytest.mark.xfail(reason=wrong[a.name], strict=True)]
                    if a.name in wrong
                    else []
                ),
            ],
        )
        for a in ARCHITECTURES.values()
    ]


@cache
def analysed(architecture: Architecture) -> tuple[nn.Module, fr.Symmetry]:
    """A model and its group, as it is found without putting it to the test."""
    torch.manual_seed(0)
    model = architecture.factory().eval()
    inputs = architecture.inputs(2)
    return model, fr.analyze(model, kwargs=inputs, check=False, front_ends=["eager"])


def prepared(model: nn.Module) -> nn.Module:
    """A copy with random weights, in float64; its experts run one by one, as written."""
    model = randomise(copy.deepcopy(model))
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        if isinstance(config, transformers.PreTrainedConfig):
            config._experts_implementation = "eager"
    return model


def evaluate(model: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    outputs = run_in_double_precision(model, (), inputs)
    return [y.clone() for y in tree_leaves(outputs) if isinstance(y, Tensor)]


@pytest.mark.parametrize("architecture", cases(INCOMPLETE))
def test_the_group_is_the_one_worked_out_by_hand(architecture: Architecture) -> None:
    _, symmetry = analysed(architecture)
    assert symmetry.log_order == pytest.approx(architecture.log_order, rel=1e-9)


@pytest.mark.parametrize("architecture", cases())
def test_every_op_is_understood(architecture: Architecture) -> None:
    _, symmetry = analysed(architecture)
    assert not symmetry.unknown_ops


@pytest.mark.parametrize("architecture", cases())
def test_random_permutations_leave_the_function_unchanged(architecture: Architecture) -> None:
    """Measured: at most 3e-15, whatever the model computes in float32 otherwise."""
    model, symmetry = analysed(architecture)
    model, inputs = prepared(model), architecture.inputs(3)
    expected = evaluate(model, inputs)
    for seed in range(2):
        moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed)).apply_to(model)
        assert difference(evaluate(moved, inputs), expected) < 1e-12


@pytest.mark.parametrize("architecture", cases())
def test_no_weight_moves_without_need(architecture: Architecture) -> None:
    """The control: with one moved tensor back in its old place, it is another function."""
    model, symmetry = analysed(architecture)
    model, inputs = prepared(model), architecture.inputs(3)
    expected = evaluate(model, inputs)
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0)).apply_to(model)
    tensors, originals = dict(moved.named_parameters()), dict(model.named_parameters())
    changed = [n for n in tensors if not torch.equal(tensors[n], originals[n])]
    needed = [n for n in changed if not n.endswith((*INERT, *architecture.inert))]
    assert needed
    for name in needed:
        kept = tensors[name].detach().clone()
        with torch.no_grad():
            tensors[name].copy_(originals[name])
            assert difference(evaluate(moved, inputs), expected) > 1e-9, name
            tensors[name].copy_(kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(QUICK - {"mixtral"}))
def test_torch_export_finds_the_same_group(name: str) -> None:
    architecture = ARCHITECTURES[name]
    model, symmetry = analysed(architecture)
    exported = fr.analyze(model, kwargs=architecture.inputs(2), check=False, front_ends=["export"])
    assert exported.front_end == "export"
    assert exported.log_order == pytest.approx(symmetry.log_order, rel=1e-9)


@pytest.mark.parametrize(("name", "front_end"), [("llama", "export"), ("mixtral", "eager")])
def test_the_first_front_end_that_works_is_chosen(name: str, front_end: str) -> None:
    """Outputs with names, inputs by name; experts are kept apart only where they are run."""
    model, symmetry = analysed(ARCHITECTURES[name])
    found = fr.analyze(model, kwargs=ARCHITECTURES[name].inputs(2))
    assert found.front_end == front_end
    assert found.log_order == pytest.approx(symmetry.log_order, rel=1e-9)
