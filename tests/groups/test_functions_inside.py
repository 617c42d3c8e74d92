"""Models whose forward gives functions to torch: transforms, control flow as operators."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch._higher_order_ops import associative_scan, while_loop
from torch._higher_order_ops.map import map as map_rows

import fxrebasin as fr


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.a(x))


class Vmapped(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.vmap(lambda row: self.b(self.hidden(row)))(x)


class Conditional(Two):
    def forward(self, x: torch.Tensor) -> Any:
        return torch.cond(x.sum() > 0, self.b, lambda h: self.b(h + 1), (self.hidden(x),))


class Loop(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        start = (torch.tensor(0), self.hidden(x))
        return self.b(while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, h.tanh()), start)[1])


class Mapped(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tanh: Any = torch.tanh  # torch says that it needs two arguments, and it needs one
        return self.b(map_rows(tanh, self.hidden(x)))


class Summed(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.hidden(x)
        return self.b(associative_scan(torch.add, rows, dim=0, combine_mode="generic"))


class Regions(Two):
    """Autocast and no_grad become regions of an exported graph."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            h = self.a(x)
        with torch.no_grad():
            k = h.detach() * 1
        return self.b(h.float().tanh() + 0 * k) if x.shape[0] > 1 else self.b(h.float())


@pytest.mark.parametrize("kind", [Vmapped, Conditional, Loop, Mapped, Summed, Regions])
def test_what_functions_do_is_followed(kind: type[Two]) -> None:
    b, a, x = kind(), kind(), torch.randn(2, 3)
    symmetry = fr.analyze(b, args=(x,))
    assert symmetry.log_order == pytest.approx(math.lgamma(9))
    fr.rebasin(b, to=a, args=(x,), progress=False)
    assert nn.Linear(3, 3)(torch.ones(1, 3)).shape == (1, 3)  # no level is left open


class Reads(Two):
    def __init__(self, how: Any) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x)
        return self.b(h + 1 if self.how(h) else h)


def test_values_that_python_reads_stay_and_are_noted() -> None:
    def is_low(h: torch.Tensor) -> bool:
        return torch.equal(h[:, 0], h[:, 0].clamp(max=3))

    reads = {
        "numpy": (lambda h: h.detach().numpy()[0, 0] > 3, 0.0),
        "tolist": (lambda h: h.tolist()[0][0] > 3, 0.0),
        "equal": (is_low, math.lgamma(8)),
    }
    for how, right in reads.values():
        found = fr.analyze(Reads(how), args=(torch.randn(2, 3),))
        assert found.log_order == pytest.approx(right)
        assert any("reads values" in note for note in found.notes)


def test_outputs_that_hold_infinities_are_tested() -> None:
    class Masked(Two):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.b(self.hidden(x))
            return y.masked_fill(torch.tensor([True, False]), -math.inf)

    found = fr.analyze(Masked(), args=(torch.randn(2, 3),))
    assert found.log_order == pytest.approx(math.lgamma(9))
    assert not found.notes


def test_shapes_that_a_rule_does_not_know_pin() -> None:
    class Unbatched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Linear(32, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(nn.functional.unfold(self.a(x), 2).transpose(-1, -2))

    found = fr.analyze(Unbatched(), args=(torch.randn(3, 4, 4),))
    assert not found.blocks
    assert found.unknown_ops


def test_nothing_can_be_concatenated() -> None:
    class Boxes(Two):
        def forward(self, x: torch.Tensor) -> Any:
            h = self.hidden(x)
            none = [h[h[:, 0] > 5] for _ in range(2)]
            return self.b(h), torch.cat(none), torch.cat([torch.zeros(0), torch.zeros(0)])

    assert not fr.analyze(Boxes(), args=(torch.randn(2, 3),)).blocks


def test_exported_graphs_can_be_pickled() -> None:
    class Exported(Two):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.hidden(x)) if x.sum().ndim == 0 and len(x) > 1 else x

    b, a, x = Exported(), Exported(), torch.randn(2, 3)
    aligned = fr.rebasin(b, to=a, args=(x,), progress=False)
    assert fr.analyze(b, args=(x,)).front_end == "export"
    restored = pickle.loads(pickle.dumps(aligned))
    torch.testing.assert_close(restored(x), b(x))
