"""Whatever can be reached from a result counts as an output, however it is wrapped."""

from __future__ import annotations

import functools
from collections import UserDict, deque, namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from networks import f
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import InvalidInputError

torch.set_num_threads(1)

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


class Slots:
    __slots__ = ("__hidden", "value")

    def __init__(self, value: Tensor) -> None:
        self.value, self.__hidden = 1, value


class Circle:
    def __init__(self, value: Tensor) -> None:
        self.me, self.value = self, [value, self]


class Model(nn.Module):
    """Eight hidden units, and four outputs that are wrapped somehow."""

    def __init__(self, wrap: Callable[..., Any]) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4))
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.net(x))


Pair = namedtuple("Pair", ["left", "right"])

WRAPS: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda y: y,
    "categorical": lambda y: torch.distributions.Categorical(logits=y),
    "normal": lambda y: torch.distributions.Independent(
        torch.distributions.Normal(y, torch.ones_like(y)), 1
    ),
    "namespace": lambda y: SimpleNamespace(logits=y),
    "slots": Slots,
    "circle": Circle,
    "set": lambda y: {y},
    "deque": lambda y: deque([y]),
    "user_dict": lambda y: UserDict(y=y),
    "named_tuple": lambda y: Pair(1, SimpleNamespace(y=y)),
    "closure": lambda y: lambda: y,
    "partial": lambda y: functools.partial(torch.add, y),
    "method": lambda y: SimpleNamespace(y=y).__eq__,
    "beside_another": lambda y: (y[:, :1], SimpleNamespace(y=y)),
}
WRAPS.pop("method")


@pytest.mark.parametrize("name", WRAPS)
def test_what_is_wrapped_is_seen(name: str) -> None:
    torch.manual_seed(0)
    model, other = Model(WRAPS[name]), Model(WRAPS[name])
    assert fr.analyze(model, (X,)).log_order == pytest.approx(f(8))
    aligned = fr.rebasin(model, to=other, args=(X,), progress=False)
    assert aligned.report.verification is not None
    assert aligned.report.verification.outputs >= 1


@pytest.mark.parametrize("wrap", [lambda y: None, lambda y: "done", lambda y: {}])
def test_a_model_without_output_tensors_is_refused(wrap: Callable[[Tensor], Any]) -> None:
    with pytest.raises(InvalidInputError, match="no tensor is found"):
        fr.analyze(Model(wrap), (X,))


def test_iterators_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="return a list"):
        fr.analyze(Model(lambda y: iter([y, y])), (X,))


class IntoArgument(nn.Module):
    def __init__(self, write: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 8), nn.Linear(8, 4)
        self.write = write

    def forward(self, x: Tensor, notes: Any) -> Any:
        h = self.first(x).tanh()
        self.write(notes, h)
        return self.head(h)


def _set_item(notes: Any, h: Tensor) -> None:
    notes["h"] = h


def _append(notes: Any, h: Tensor) -> None:
    notes.append(h)


def _set_attribute(notes: Any, h: Tensor) -> None:
    notes.h = h


def _copy(notes: Any, h: Tensor) -> None:
    notes.copy_(h)


@pytest.mark.parametrize(
    ("write", "notes"),
    [
        (_set_item, {}),
        (_append, []),
        (_set_attribute, SimpleNamespace()),
        (_copy, torch.zeros(5, 8)),
    ],
)
def test_what_is_written_into_arguments_is_seen(write: Any, notes: Any) -> None:
    symmetry = fr.analyze(IntoArgument(write), (X, notes))
    assert symmetry.log_order == 0.0


class OntoItself(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Any:
        self.features = self.first(x).tanh()
        return self.head(self.second(self.features).tanh())


def test_what_is_left_on_the_module_is_seen() -> None:
    torch.manual_seed(0)
    model, other = OntoItself(), OntoItself()
    symmetry = fr.analyze(model, (X,))
    assert symmetry.log_order == pytest.approx(f(6))
    assert symmetry.front_end == "eager"
    aligned = fr.rebasin(model, to=other, args=(X,), progress=False)
    aligned(X)
    torch.testing.assert_close(aligned.features, model.first(X).tanh())
