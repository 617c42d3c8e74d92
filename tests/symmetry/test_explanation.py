"""Why an axis moves as it does, or why it does not."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import InvalidArgumentError
from fxrebasin.tracing.front_ends import FrontEnd

torch.set_num_threads(1)

X = torch.zeros(2, 3)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.up, self.down = nn.Linear(3, 5), nn.Linear(5, 7), nn.Linear(7, 5)
        self.leave = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        h = h + self.down(self.up(h).relu())
        return self.leave(h)


class Ordered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.middle, self.leave = nn.Linear(3, 4), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.middle(self.enter(x))
        h = h.cumsum(1)  # the culprit
        return self.leave(h)


def line_of(kind: type[nn.Module], text: str) -> str:
    lines, first = inspect.getsourcelines(kind)
    number = first + next(k for k, line in enumerate(lines) if text in line)
    return f"{Path(__file__).name}:{number}: "


def test_what_moves_names_its_block_and_what_moves_with_it() -> None:
    found = fr.analyze(Residual(), (X,)).explain("down.weight", 0)
    assert found.axis == ("down.weight", 0)
    assert found.size == 5
    assert [b.name for b in found.blocks] == ["enter.weight[0]"]
    assert set(found.moves_with) == {
        ("enter.weight", 0),
        ("enter.bias", 0),
        ("up.weight", 1),
        ("down.bias", 0),
        ("leave.weight", 1),
    }
    assert [s.node for s in found.moves_with["enter.weight", 0]] == ["down", "add", "enter"]
    assert [s.node for s in found.moves_with["down.bias", 0]] == ["down"]
    assert found.pinned == ""
    assert found.path == ()
    text = str(found)
    assert text.startswith(
        "down.weight[0], 5 entries\n  moves with block enter.weight[0] (5 units)"
    )
    assert "and so does enter.weight[0], through down -> add -> enter" in text


def test_what_is_pinned_names_the_cause_and_the_users_line() -> None:
    symmetry = fr.analyze(Ordered(), (X,))
    found = symmetry.explain("middle.bias", 0)
    assert found.blocks == ()
    assert found.pinned.endswith("(at cumsum)")
    assert found.pinned_units == 6
    assert [(s.kind, s.node) for s in found.path] == [("equal", "middle"), ("pinned", "cumsum")]
    assert line_of(Ordered, "the culprit") in found.path[-1].source
    assert found.path[-1].source.endswith("h = h.cumsum(1)  # the culprit")
    assert found.path[-1].source in str(found)


@pytest.mark.parametrize("front_end", ["export", "eager"])
def test_the_users_line_is_named_whatever_ran_the_model(front_end: FrontEnd) -> None:
    found = fr.analyze(Ordered(), (X,), front_ends=[front_end]).explain("middle.weight", 0)
    assert "cumsum" in found.path[-1].node
    assert line_of(Ordered, "the culprit") in found.path[-1].source


def test_outputs_and_inputs_pin_where_they_are_met() -> None:
    symmetry = fr.analyze(Residual(), (X,))
    leave = symmetry.explain("leave.bias", 0)
    assert leave.pinned == "is an output of the model (at output)"
    assert [(s.kind, s.node) for s in leave.path] == [("equal", "leave"), ("pinned", "output")]
    enter = symmetry.explain("enter.weight", 1)
    assert enter.pinned.startswith("is a fixed place: of an input")
    assert [(s.kind, s.node) for s in enter.path] == [("pinned", "enter")]
    assert line_of(Residual, "h = self.enter(x)") in enter.path[0].source


def test_axes_are_counted_from_the_end_as_well() -> None:
    symmetry = fr.analyze(Residual(), (X,))
    assert symmetry.explain("up.weight", -1) == symmetry.explain("up.weight", 1)


def test_an_unused_parameter_says_so() -> None:
    model = Residual()
    model.extra = nn.Parameter(torch.ones(4))
    found = fr.analyze(model, (X,)).explain("extra", 0)
    assert found.pinned == "is not used on the traced path"
    assert found.path == ()


def test_long_lists_are_cut() -> None:
    layers = [layer for _ in range(8) for layer in (nn.Linear(4, 4), nn.ReLU())]

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.layers = nn.Linear(3, 4), nn.ModuleList(layers)
            self.leave = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.enter(x)
            for layer in self.layers:
                h = h + layer(h)
            return self.leave(h)

    text = str(fr.analyze(Deep(), (X,)).explain("enter.weight", 0))
    assert "more axes" in text
    assert len(text.splitlines()) < 20


def test_what_cannot_be_explained() -> None:
    symmetry = fr.analyze(Residual(), (X,))
    with pytest.raises(
        InvalidArgumentError, match=r"no parameter 'up.weigth'; did you mean up.weight"
    ):
        symmetry.explain("up.weigth", 0)
    with pytest.raises(
        InvalidArgumentError, match=r"'up.weight' has 2 axes, so there is no axis 2"
    ):
        symmetry.explain("up.weight", 2)
    with pytest.raises(InvalidArgumentError, match=r"read from JSON.*fr.analyze"):
        fr.Symmetry.from_json(symmetry.to_json()).explain("up.weight", 0)
