"""Absorb and Canonicalise: both models in one form, verified, with which what follows goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import pytest
import torch
from kinds_by_hand import CASES, Decoder
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.canonical.canonicalise import canonical_tensors
from fxrebasin.canonical.gauge import in_gauge
from fxrebasin.errors import ArchitectureMismatchError, PassOrderError, VerificationError
from fxrebasin.passes import (
    Absorb,
    Canonicalise,
    Propagate,
    Refine,
    Rewrite,
    Solve,
    Trace,
    Verify,
)
from fxrebasin.passes.base import Pass
from fxrebasin.passes.state import State, state_of

CASE = CASES["GPT"]


def model(seed: int, dtype: torch.dtype = torch.float32) -> Decoder:
    torch.manual_seed(seed)
    made = CASE.make()
    assert isinstance(made, Decoder)
    with torch.no_grad():
        for norm in made.norms:
            for p in norm.parameters():
                p.add_(0.3 * torch.randn_like(p))
    return made.to(dtype)


def run(b: nn.Module, *steps: Pass) -> nn.Module:
    module = b
    for step in (Trace(CASE.inputs()), Propagate(), Refine(), *steps):
        module = step(module).graph_module
    return module


def known(module: nn.Module) -> State:
    return state_of(module, "gauge")


@pytest.mark.parametrize("step", [Absorb, Canonicalise])
def test_both_models_compute_what_they_did(step: type[Absorb] | type[Canonicalise]) -> None:
    a, b = model(0), model(1)
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (a, b)]
    gauge = known(run(b, step(to=a))).gauge
    assert gauge is not None
    assert gauge.reference is not None
    assert isinstance(gauge.model, Decoder)
    assert isinstance(gauge.reference, Decoder)
    for given, made in ((b, gauge.model), (a, gauge.reference)):
        torch.testing.assert_close(made(*CASE.inputs()), given(*CASE.inputs()), rtol=0, atol=1e-5)
        assert list(made.state_dict()) == list(given.state_dict())
        for name in gauge.absorbed:
            assert (made.state_dict()[name] == 1).all()
    for m, state in zip((a, b), before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in m.state_dict().items())
    assert len(gauge.absorbed) == 5
    assert all(found.error < 1e-12 for found in gauge.verifications)
    assert str(gauge).startswith("5 norms absorbed, ")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_comes_after_goes_on_with_canonical_weights(dtype: torch.dtype) -> None:
    a, b = model(0, dtype), model(1, dtype)
    emitted = run(b, Canonicalise(to=a), Solve(to=a, progress=False), Rewrite(), Verify())
    state = emitted.state_dict()
    assert list(state) == list(b.state_dict())
    assert all(t.dtype == dtype for t in state.values())
    assert (state["norms.0.weight"] == 1).all()
    found = state_of(emitted).verification
    assert found is not None
    if dtype == torch.float32:
        assert found.error < 1e-5


def test_another_reference_is_refused() -> None:
    a, b = model(0), model(1)
    with pytest.raises(PassOrderError, match="Solve is given another reference than Absorb"):
        run(b, Absorb(to=a), Solve(to=model(2), progress=False))
    with pytest.raises(PassOrderError, match="Solve is given another reference than Absorb"):
        run(b, Canonicalise(), Solve(to=a, progress=False))
    with pytest.raises(ArchitectureMismatchError):
        run(b, Canonicalise(to=CASES["ViT"].make()))


def test_a_reference_may_be_left_out() -> None:
    gauge = known(run(model(0), Canonicalise())).gauge
    assert gauge is not None
    assert gauge.reference is None
    assert len(gauge.verifications) == 1


def test_a_wrong_form_is_refused_and_its_block_named() -> None:
    torch.manual_seed(0)
    b = CASES["a bottleneck"].make()
    inputs = CASES["a bottleneck"].inputs()
    symmetry = fr.analyze(b, inputs)
    (wrong,) = (block for block in symmetry if block.size == 9)

    name, _ = wrong.axes[0]

    def make(
        symmetry: fr.Symmetry, tensors: Mapping[str, Tensor], *, only: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        is_asked = only is None or wrong.name in only
        return {name: 2 * tensors[name].double()} if is_asked else {}

    expected = f"does not compute what it did; blocks at fault: '{wrong.name}'".replace("[", r"\[")
    with pytest.raises(VerificationError, match=expected):
        in_gauge(symmetry, b, None, inputs, {}, make=make)


def test_scales_are_asked_for() -> None:
    torch.manual_seed(0)
    b = CASES["relu"].make()
    inputs = CASES["relu"].inputs()
    symmetry = fr.analyze(b, inputs)
    for scales in (False, True):
        make = partial(canonical_tensors, scales=scales)
        gauge = in_gauge(symmetry, b, None, inputs, {}, make=make)
        assert bool(gauge.changed) is scales
