"""What TorchScript has compiled runs op by op as well, so that its ops are seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import f
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference
from fxrebasin.errors import InvalidParameterError, TraceError

torch.set_num_threads(1)

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class Around(nn.Module):
    """Something between two linear layers."""

    def __init__(self, inner: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 8), nn.Linear(8, 2)
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.inner(self.enter(x)))


def wide() -> Tensor:
    return torch.randn(2, 8)


MODELS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "a scripted model": (lambda: torch.jit.script(net()), f(8)),
    "a traced model": (lambda: torch.jit.trace(net(), X), f(8)),
    "a scripted function": (lambda: Around(torch.jit.script(swish)), f(8)),
    "a traced function": (lambda: Around(torch.jit.trace(swish, X)), f(8)),
    "a scripted activation": (lambda: Around(torch.jit.script(nn.SiLU())), f(8)),
    "a scripted layer": (lambda: Around(torch.jit.script(nn.Linear(8, 8))), f(8) + f(8)),
    "a traced layer": (lambda: Around(torch.jit.trace(nn.Linear(8, 8), wide())), f(8) + f(8)),
    "scripted layers in a list": (
        lambda: nn.Sequential(*map(torch.jit.script, (nn.Linear(3, 8), nn.Linear(8, 2)))),
        f(8),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_compiled_code_is_followed(name: str) -> None:
    make, log_order = MODELS[name]
    a, b = make(), make()
    before = {key: (tensor, tensor.clone()) for key, tensor in b.state_dict().items()}
    symmetry = fr.analyze(b, (X,))
    assert symmetry.log_order == pytest.approx(log_order)
    expected = b(X)
    for seed in range(4):
        moves = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed))
        assert difference([moves.apply_to(b)(X)], [expected]) < 1e-5
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    assert difference([aligned(X)], [expected]) < 1e-5
    assert aligned.report.symmetry.log_order == pytest.approx(log_order)
    assert b.training
    assert torch.equal(b(X), expected)
    for key, tensor in b.state_dict().items():
        assert tensor.data_ptr() == before[key][0].data_ptr()
        assert torch.equal(tensor, before[key][1])


@pytest.mark.parametrize("front_end", ["symbolic_trace", "export", "eager"])
def test_a_scripted_layer_still_runs_after_every_front_end(front_end: Any) -> None:
    model = Around(torch.jit.script(nn.Linear(8, 8)))
    expected = model(X)
    try:
        assert fr.analyze(model, (X,), front_ends=[front_end]).log_order == pytest.approx(2 * f(8))
    except TraceError:
        assert front_end == "export"
    assert torch.equal(model(X), expected)


@pytest.mark.parametrize("front_end", ["symbolic_trace", "export"])
def test_graphs_of_compiled_models_are_refused_in_a_sentence(front_end: Any) -> None:
    with pytest.raises(TraceError, match=f"TorchScript has compiled it, and {front_end} needs"):
        fr.analyze(torch.jit.script(net()), (X,), front_ends=[front_end])


def test_frozen_models_have_no_parameters() -> None:
    frozen = torch.jit.freeze(torch.jit.script(net().eval()))
    with pytest.raises(InvalidParameterError, match=r"torch\.jit\.freeze has made constants"):
        fr.analyze(frozen, (X,))
