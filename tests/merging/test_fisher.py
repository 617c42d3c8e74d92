"""The Fisher information is that of single examples, however they come in batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import InvalidArgumentError, SlowerWarning

torch.set_num_threads(1)

Batch = tuple[Tensor, Tensor]


def examples(shape: tuple[int, ...], count: int = 12, classes: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, (count,), generator=generator)


def split(batch: Batch, *sizes: int) -> list[Batch]:
    x, y = batch
    return list(zip(x.split(list(sizes)), y.split(list(sizes)), strict=True))


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 3)).double()


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3)).double()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(4, 5, batch_first=True, dtype=torch.float64)
        self.head = nn.Linear(5, 3, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0].sum(1))


class Branching(nn.Module):
    """Python asks for values, which vmap does not have."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = (nn.Linear(4, 3, dtype=torch.float64) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        rows = [self.one(row) if float(row.sum()) > 0 else self.other(row) for row in x]
        return torch.stack(rows)


def one_by_one(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The same, written as the definition says."""
    model.eval()
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for x, y in zip(*batch, strict=True):
        model.zero_grad()
        (-model(x[None]).log_softmax(1)[0, y]).backward()
        for name, p in model.named_parameters():
            if p.grad is not None:
                sums[name] += p.grad.square()
    model.zero_grad()
    return {name: total / len(batch[0]) for name, total in sums.items()}


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (4,)),
    "convolutional": (convolutional, (2, 5, 5)),
    "recurrent": (Recurrent, (6, 4)),
    "branching": (Branching, (4,)),
}


@pytest.mark.filterwarnings("ignore::fxrebasin.errors.SlowerWarning")
@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_mean_of_squares_and_not_the_square_of_means(name: str) -> None:
    factory, shape = MODELS[name]
    batch = examples(shape)
    expected = one_by_one(factory(), batch)
    for sizes, at_once in (((12,), 16), ((5, 7), 3), ((1, 11), 1)):
        found = fr.fisher(factory(), split(batch, *sizes), at_once=at_once, progress=False)
        assert found.keys() == expected.keys()
        for key, value in found.items():
            assert torch.allclose(value, expected[key], rtol=1e-9, atol=1e-15), key


def test_it_says_where_examples_are_run_one_by_one() -> None:
    with pytest.warns(
        SlowerWarning, match=r"torch.func.vmap cannot .* computed one by one"
    ) as seen:
        fr.fisher(Branching(), split(examples((4,)), 6, 6), progress=False)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fr.fisher(mlp(), [examples((4,))], progress=False)


def test_labels_that_are_drawn_estimate_the_true_one() -> None:
    """For a linear model of logits it is known: x_i^2 times the variance of each class."""
    torch.manual_seed(0)
    model = nn.Linear(2, 3, bias=False).double()
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    many = (x.expand(4000, 2), torch.zeros(4000, dtype=torch.long))
    found = fr.fisher(model, [many], labels="sampled", at_once=4000, progress=False)["weight"]
    chances = model(x).softmax(1).detach()[0]
    expected = (chances * (1 - chances))[:, None] * x.square()
    assert torch.allclose(found, expected, rtol=0.1)
    empirical = fr.fisher(model, [many], at_once=4000, progress=False)["weight"]
    assert not torch.allclose(empirical, expected, rtol=0.2)
    again = fr.fisher(model, [many[0]], labels="sampled", at_once=4000, progress=False)["weight"]
    assert torch.equal(again, found)
    other = fr.fisher(model, [many], labels="sampled", at_once=4000, seed=1, progress=False)
    assert not torch.equal(other["weight"], found)


def test_every_position_has_a_label() -> None:
    torch.manual_seed(0)
    model = nn.Conv1d(2, 3, 1).double()
    x, y = torch.randn(5, 2, 4, dtype=torch.float64), torch.randint(3, (5, 4))
    sampled = fr.fisher(model, [x], labels="sampled", progress=False)
    assert all(bool((value > 0).all()) for value in sampled.values())
    mean = fr.fisher(model, [(x, y)], progress=False)
    total = fr.fisher(
        model, [(x, y)], loss=lambda o, t: F.cross_entropy(o, t, reduction="sum"), progress=False
    )
    assert torch.allclose(total["weight"], 16 * mean["weight"])


def test_batches_in_other_forms() -> None:
    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp()

        def forward(self, x: Tensor, scale: Tensor, shift: float = 0.0) -> Any:
            return type("Output", (), {"logits": self.inner(x * scale) + shift})()

    x, y = examples((4,))
    scale = torch.full((12, 1), 2.0, dtype=torch.float64)
    expected = fr.fisher(mlp(), [(2 * x, y)], progress=False)
    keywords = [{"x": x, "scale": scale, "shift": 1.0, "labels": y}]
    swapped = [(y, y, x)]
    forms: list[dict[str, torch.Tensor]] = [
        fr.fisher(Keywords(), keywords, progress=False),
        fr.fisher(Keywords(), swapped, inputs=lambda b: (b[2], scale), progress=False),
        fr.fisher(Keywords(), [(x, y)], inputs=lambda b: (b[0], scale), progress=False),
    ]
    for found in forms:
        for name, value in expected.items():
            assert torch.allclose(found[f"inner.{name}"], value)


def test_the_model_is_left_as_it_was() -> None:
    model = convolutional().train()
    bias = dict(model.named_parameters())["0.bias"].requires_grad_(False)
    first = next(model.parameters())
    first.grad = torch.ones_like(first)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    for labels in ("given", "sampled"):
        found = fr.fisher(model, [examples((2, 5, 5))], labels=labels, progress=False)
        assert not found["0.bias"].any()
        assert found["0.weight"].any()
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, state[n]) for n, tensor in model.state_dict().items())
    assert torch.equal(first.grad, torch.ones_like(first))
    assert not bias.requires_grad
    assert torch.equal(torch.get_rng_state(), random)


def test_names_of_one_tensor_have_one_information() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).tanh())

    model = Tied().double()
    batch = examples((4,), classes=4)
    found = fr.fisher(model, [batch], progress=False)
    assert found["first.weight"] is found["second.weight"]
    assert torch.allclose(found["first.weight"], one_by_one(model, batch)["first.weight"])


def test_low_precision_is_summed_in_float32() -> None:
    x, y = examples((4,))
    found = fr.fisher(mlp().bfloat16(), [(x.bfloat16(), y)], progress=False)
    expected = fr.fisher(mlp(), [(x, y)], progress=False)
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert torch.allclose(value.double(), expected[name], rtol=0.3, atol=1e-2)


X, Y = examples((4,))
BROKEN: dict[str, tuple[Iterable[object], dict[str, Any], str]] = {
    "nothing": ([], {}, "data: expected at least one batch, found none"),
    "no target": ([X], {}, "data: expected batches with a target"),
    "text": (["abc"], {}, "data: expected batches that are a tensor, a tuple or list"),
    "sizes": ([(X, Y[:3])], {}, "the first dimension of every tensor is that of the examples"),
    "labels": ([(X, Y)], {"labels": "true"}, "labels: expected 'given' or 'sampled'"),
    "no number": (
        [(X, Y)],
        {"loss": lambda output, target: output},
        "loss: expected a function that returns a tensor of one number",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_errors_say_what_to_do(what: str) -> None:
    data, options, text = BROKEN[what]
    with pytest.raises(InvalidArgumentError, match=text):
        fr.fisher(mlp(), data, **options, progress=False)


def test_a_model_without_logits() -> None:
    with pytest.raises(InvalidArgumentError, match="model: expected one that returns logits"):
        fr.fisher(nn.Sequential(mlp(), nn.Flatten(0)), [(X, Y)], progress=False)
