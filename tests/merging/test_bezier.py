"""Control points that are trained: the loss falls half way, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional as F

import fxrebasin as fr
from fxrebasin.errors import ArchitectureMismatchError, InvalidArgumentError

Batch = tuple[Tensor, Tensor]


def digits() -> list[Batch]:
    data = datasets.load_digits()
    x = torch.from_numpy(data.data).float() / 16
    return [*zip(x.split(128), torch.from_numpy(data.target).split(128), strict=True)]


def loss(model: nn.Module, batch: Batch) -> Tensor:
    x, y = batch
    return F.cross_entropy(model(x), y)


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 3)
    )


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(8, 4, generator=generator), torch.randint(3, (8,), generator=generator))
        for _ in range(3)
    ]


train = partial(fr.train_bezier, loss=loss, steps=5, progress=False)


@pytest.mark.slow
def test_training_lowers_the_barrier_between_two_networks_that_read_digits() -> None:
    data = digits()
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        model.append(nn.Linear(64, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(15):
            for batch in data:
                optimizer.zero_grad()
                loss(model, batch).backward()
                optimizer.step()
        models.append(model)
    a, b = models

    @torch.no_grad()
    def evaluate(model: nn.Module) -> float:
        return sum(float(loss(model, batch)) for batch in data) / len(data)

    control = train(a, b, data=data, steps=150)
    line = fr.interpolate(a, b, evaluate, progress=False)
    curve = fr.interpolate(a, b, evaluate, curve=fr.curves.Bezier(control), progress=False)
    assert curve.losses[0] == line.losses[0]
    assert curve.losses[-1] == line.losses[-1]
    assert line.barrier > 0.1
    assert curve.barrier < line.barrier / 3
    assert curve.curve == "bezier"


def test_one_step_follows_the_gradient_at_the_point_that_is_drawn() -> None:
    a, b = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    t = torch.rand((), generator=torch.Generator().manual_seed(7), dtype=torch.float64).item()
    x = torch.tensor([[1.0, -2.0]])
    control = train(
        a,
        b,
        loss=lambda model, batch: model(batch).sum(),
        data=[x],
        steps=1,
        seed=7,
        optimizer=partial(torch.optim.SGD, lr=1.0),
    )
    middle = ((a.weight + b.weight) / 2).detach()
    torch.testing.assert_close(control["weight"], middle - 2 * t * (1 - t) * x)


def test_the_control_point_is_a_state_dict_of_the_model() -> None:
    a, b = net(0), net(1)
    control = train(a, b, data=batches())
    assert [*control] == [*a.state_dict()]
    for name, tensor in a.state_dict().items():
        assert control[name].dtype == tensor.dtype
        assert control[name].shape == tensor.shape
        assert not control[name].requires_grad
    net(2).load_state_dict(control)


def test_statistics_are_the_means_of_the_ends_and_counters_those_of_a() -> None:
    a, b = net(0), net(1)
    nn.init.constant_(b[1].running_mean, 4.0)  # type: ignore[arg-type]
    nn.init.constant_(a[1].num_batches_tracked, 3)  # type: ignore[arg-type]
    control = train(a, b, data=batches())
    assert torch.equal(control["1.running_mean"], torch.full((6,), 2.0))
    assert int(control["1.num_batches_tracked"]) == 3


def test_the_same_seed_finds_the_same_and_another_another() -> None:
    a, b = net(0), net(1)
    data = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*map(torch.cat, zip(*batches(), strict=True))),
        batch_size=8,
        shuffle=True,
    )
    torch.manual_seed(5)
    first = train(a, b, data=data)
    torch.rand(3)
    again, other = train(a, b, data=data), train(a, b, data=data, seed=1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_neither_model_nor_the_random_state_changes() -> None:
    a, b = net(0).eval(), net(1).train()
    before = [{n: t.clone() for n, t in m.state_dict().items()} for m in (a, b)]
    state = torch.get_rng_state()
    with torch.no_grad():
        train(a, b, data=batches())
    assert torch.equal(state, torch.get_rng_state())
    for model, kept in zip((a, b), before, strict=True):
        assert all(torch.equal(kept[n], t) for n, t in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())
    assert not a.training
    assert b.training


def test_a_model_in_evaluation_is_trained_in_training_mode_on_a_copy() -> None:
    a, b = net(0).eval(), net(1).eval()
    seen = []

    def watched(model: nn.Module, batch: Batch) -> Tensor:
        assert model is not a
        seen.append(all(module.training for module in model.modules()))
        return loss(model, batch)

    train(a, b, loss=watched, data=batches())
    assert seen == [True] * 5
    assert not a.training


def test_training_goes_on_in_inference_mode() -> None:
    a, b, data = net(0), net(1), batches()
    with torch.inference_mode():
        control = train(a, b, data=data, steps=1)
    assert torch.isfinite(control["0.weight"]).all()


def test_what_wants_no_gradient_stays_on_the_line() -> None:
    a, b = net(0), net(1)
    a[0].requires_grad_(False)
    control = train(a, b, data=batches())
    one, other = a.state_dict(), b.state_dict()
    middle = {name: torch.lerp(one[name], other[name], 0.5) for name in ("0.weight", "4.weight")}
    torch.testing.assert_close(control["0.weight"], middle["0.weight"])
    assert not torch.allclose(control["4.weight"], middle["4.weight"])


def test_tied_weights_are_trained_as_one() -> None:
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        models.append(model)
    control = train(*models, data=batches())
    assert control["0.weight"] is control["1.weight"]


def test_low_precision_is_trained_in_float32() -> None:
    a, b = (nn.Linear(4, 3).bfloat16() for _ in "ab")
    data = [(x.bfloat16(), y) for x, y in batches()]
    tiny = partial(torch.optim.SGD, lr=1e-4)
    control = train(a, b, data=data, steps=200, optimizer=tiny)
    assert control["weight"].dtype == torch.bfloat16
    middle = torch.lerp(a.weight.float(), b.weight.float(), 0.5).bfloat16()
    assert not torch.equal(control["weight"], middle)


def test_training_may_go_on_where_it_ended() -> None:
    a, b = nn.Linear(4, 3), nn.Linear(4, 3)
    still = partial(torch.optim.SGD, lr=0.0)
    start = nn.Linear(4, 3)
    control = train(a, b, data=batches(), start=start, optimizer=still)
    assert torch.equal(control["weight"], start.weight)


def _once() -> Iterator[Batch]:
    yield from batches()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": []}, "data: expected batches, found none"),
        ({"data": _once()}, "data is read more than once"),
        ({"loss": lambda m, z: 3.0}, "loss: expected a function that returns a tensor with one"),
        ({"loss": lambda m, z: m(z[0])}, r"found a Tensor of shape \(8, 3\)"),
        ({"loss": lambda m, z: torch.zeros(())}, "which wants a gradient"),
        ({"loss": lambda m, z: m(z[0]).sum() * float("nan")}, "found nan at step 1, t = 0.97"),
        ({"optimizer": lambda p: None}, "optimizer: expected a function that returns an optim"),
        ({"steps": 0}, "steps: expected a whole number, at least 1"),
        ({"start": {}}, "control: expected a control point with '0.weight'"),
        ({"a": nn.Sequential(nn.ReLU()), "b": nn.Sequential(nn.ReLU())}, "a: expected a model wi"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {"a": net(0), "b": net(1), "data": batches()}
    with pytest.raises(InvalidArgumentError, match=message):
        train(**{**right, **options})


def test_models_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ArchitectureMismatchError, match=r"'0.weight' has shape \(6, 4\) in a"):
        train(net(0), nn.Sequential(nn.Linear(3, 6)), data=batches())
