"""The one-call interface: a group that is known is not sought again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from random_pairs import random_pair
from torch import fx, nn

import fxrebasin as fr
from fxrebasin.errors import ArchitectureMismatchError

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def net(seed: int, hidden: int = 6) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 2))


def test_a_known_group_is_used_as_it_is() -> None:
    a, b = net(1), net(2)
    symmetry = fr.analyze(b, args=(X,))
    known = fr.rebasin(b, to=a, args=(X,), symmetry=symmetry, progress=False)
    sought = fr.rebasin(b, to=a, args=(X,), progress=False)
    assert known.report.symmetry is symmetry
    assert known.report.permutation.indices.keys() == sought.report.permutation.indices.keys()
    assert all(torch.equal(known.state_dict()[n], t) for n, t in sought.state_dict().items())
    assert torch.allclose(known(X), b(X), atol=1e-5)
    assert "propagate" not in known.report.seconds


@pytest.mark.parametrize("front_end", ["symbolic_trace", "export", "eager"])
def test_the_graph_is_that_of_the_front_end_that_found_the_group(front_end: str) -> None:
    a, b = net(1), net(2)
    symmetry = fr.analyze(b, args=(X,), front_ends=[front_end])  # type: ignore[list-item]
    read = fr.Symmetry.from_json(symmetry.to_json())
    aligned = fr.rebasin(b, to=a, args=(X,), symmetry=read, progress=False)
    assert torch.allclose(aligned(X), b(X), atol=1e-5)
    if front_end == "eager":
        assert isinstance(aligned, nn.Sequential)
    else:
        assert isinstance(aligned, fx.GraphModule)
        targets = {node.target for node in aligned.graph.nodes}
        assert (torch.ops.aten.linear.default in targets) == (front_end == "export")


def test_the_weights_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    total = torch.Tensor.sum

    def noted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        reads.append(tensor.data_ptr())
        return total(tensor, *args, **kwargs)

    a, b = net(1), net(2)
    places = [model.get_parameter("0.weight").data_ptr() for model in (a, b)]
    monkeypatch.setattr(torch.Tensor, "sum", noted)
    fr.rebasin(b, to=a, args=(X,), progress=False)
    assert [reads.count(place) for place in places] == [1, 1]
    symmetry = fr.analyze(b, args=(X,))
    fr.match(symmetry, b.state_dict(), to=a.state_dict(), progress=False)
    assert [reads.count(place) for place in places] == [2, 3]  # alone, each call looks for itself


def test_a_group_of_another_model_is_refused() -> None:
    a, b = net(1), net(2)
    symmetry = fr.analyze(net(0, hidden=7), args=(X,))
    kept = {name: tensor.clone() for name, tensor in b.state_dict().items()}
    with pytest.raises(ArchitectureMismatchError) as caught:
        fr.rebasin(b, to=a, args=(X,), symmetry=symmetry, inplace=True, progress=False)
    assert str(caught.value) == (
        "'0.weight' has shape (6, 3) in model A, but the symmetry was found for shape (7, 3)"
    )
    other = random_pair("residual_mlp")[0]
    with pytest.raises(ArchitectureMismatchError, match="which the symmetry moves"):
        fr.rebasin(b, to=a, args=(X,), symmetry=other, progress=False)
    assert all(torch.equal(kept[name], tensor) for name, tensor in b.state_dict().items())


def test_a_part_of_the_group_may_be_given() -> None:
    a, b = net(1), net(2)
    symmetry = fr.analyze(b, args=(X,), constraints=[fr.pin("0.weight", 0)])
    aligned = fr.rebasin(b, to=a, args=(X,), symmetry=symmetry, progress=False)
    assert all(torch.equal(aligned.state_dict()[n], t) for n, t in b.state_dict().items())


def test_outputs_that_were_left_free_move() -> None:
    a, b = net(1), net(2)
    symmetry = fr.analyze(b, args=(X,), free_outputs=True)
    aligned = fr.rebasin(b, to=a, args=(X,), symmetry=symmetry, progress=False)
    (order,) = aligned.report.permutation.indices["2.weight[0]"]
    assert torch.allclose(aligned(X), b(X)[:, order.tolist()], atol=1e-5)
