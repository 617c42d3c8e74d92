"""What the caller has switched on around a call makes no difference, and is on again afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import nn
from torch._C import _functorch
from torch._functorch import pyfunctorch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import _get_current_function_mode_stack
from torch.utils.flop_counter import FlopCounterMode

import fxrebasin as fr
from fxrebasin.models.precision import coarsest_dtype
from fxrebasin.models.running import run
from fxrebasin.models.surroundings import neutral, unwinding

RIGHT = math.lgamma(9) + math.lgamma(8)

AROUND: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "meta": lambda: torch.device("meta"),
    "fake": FakeTensorMode,
    "counting": lambda: FlopCounterMode(display=False),
}


def make() -> nn.Module:
    widths = (nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 2))
    return nn.Sequential(*widths)


@pytest.mark.parametrize("around", AROUND)
def test_results_are_the_same_in_every_context(around: str) -> None:
    b, a, x = make(), make(), torch.randn(2, 3)
    states = b.state_dict(), a.state_dict()
    with AROUND[around]():
        for _ in range(2):  # the second time, autocast has copies of the weights
            symmetry = fr.analyze(b, args=(x,))
            assert symmetry.log_order == pytest.approx(RIGHT)
            assert not symmetry.notes
        fr.weight_matching(symmetry, states[0], to=states[1], progress=False)
        fr.activation_matching(b, to=a, args=(x,), progress=False)
        fr.Permutation.random(symmetry).apply_to(b)
        aligned = fr.rebasin(b, to=a, args=(x,), progress=False)
    torch.testing.assert_close(aligned(x), b(x))


def test_models_made_in_inference_mode_can_be_permuted_in_place() -> None:
    with torch.inference_mode():
        b, a, x = make(), make(), torch.randn(2, 3)
        before = b(x)
    assert fr.analyze(b, args=(x,)).log_order == pytest.approx(RIGHT)
    fr.rebasin(b, to=a, args=(x,), inplace=True, progress=False)
    with torch.no_grad():
        torch.testing.assert_close(b(x), before)


def test_default_devices_stay_what_they_were() -> None:
    b, x = make(), torch.randn(2, 3)
    torch.set_default_device("meta")
    try:
        symmetry = fr.analyze(b, args=(x,))
        fr.Permutation.random(symmetry, torch.Generator("cpu").manual_seed(0))
        assert torch.get_default_device().type == "meta"
        assert torch.zeros(1).is_meta
    finally:
        torch.set_default_device(None)
    assert symmetry.log_order == pytest.approx(RIGHT)
    assert not _get_current_function_mode_stack()


def test_inside_a_transform_plain_inputs_work_and_its_own_are_refused() -> None:
    b = make()

    def plain(x: torch.Tensor) -> torch.Tensor:
        return x * fr.analyze(b, args=(torch.ones(1, 3),)).log_order

    def own(x: torch.Tensor) -> torch.Tensor:
        return x * fr.analyze(b, args=(x,)).log_order

    assert torch.vmap(plain)(torch.ones(2, 3))[0, 0].item() == pytest.approx(RIGHT, rel=1e-5)
    with pytest.raises(fr.errors.InvalidInputError, match="call this outside of it"):
        torch.vmap(own)(torch.ones(2, 3))


def test_fake_inputs_and_weights_are_refused() -> None:
    with FakeTensorMode():
        model, x = make(), torch.randn(2, 3)
    with pytest.raises(fr.errors.InvalidParameterError, match="is a FakeTensor and has no values"):
        fr.analyze(model, args=(torch.ones(1, 3),))
    with pytest.raises(fr.errors.InvalidInputError, match="an example input is a FakeTensor"):
        fr.analyze(make(), args=(x,))


def test_everything_is_on_again_where_the_call_fails() -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        with pytest.raises(KeyError), neutral():
            raise KeyError
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_cache_enabled()
        assert torch.zeros(1).is_meta


def test_levels_of_transforms_that_are_left_open_are_closed() -> None:
    with unwinding():
        _functorch._vmap_increment_nesting(3, "error")
        assert pyfunctorch.retrieve_current_functorch_interpreter() is not None
    assert _functorch.peek_interpreter_stack() is None


def test_the_precision_of_a_run_is_seen_from_outside() -> None:
    class Single(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float().double()

    with coarsest_dtype(torch.float64) as coarsest:
        run(Single(), (torch.ones(2, dtype=torch.float64),), {})
    assert coarsest.dtype == torch.float32


def test_batch_norm_made_in_inference_mode_is_analysed() -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    found = fr.analyze(model, args=(torch.randn(2, 3),))
    assert found.log_order == pytest.approx(math.lgamma(9))
