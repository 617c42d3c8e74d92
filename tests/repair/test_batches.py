"""What data yield becomes the arguments of a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fxrebasin.errors import InvalidArgumentError
from fxrebasin.repair.batches import Batches

X = torch.ones(2, 3)
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("batch", "args", "kwargs"),
    [
        (X, 1, []),
        ((X, 5), 1, []),
        ([X, X], 1, []),
        ({"a": X, "b": [X, None]}, 0, ["a", "b"]),
    ],
)
def test_batches_of_every_kind(batch: Any, args: int, kwargs: list[str]) -> None:
    ((found, named),) = Batches([batch]).read(CPU)
    assert (len(found), [*named]) == (args, kwargs)
    assert all(torch.equal(x, X) for x in found)


def test_a_function_makes_arguments_and_a_limit_stops() -> None:
    data = Batches([(X, 1), (X, 2), (X, 3)], 2, lambda batch: (batch[0], batch[1]))
    assert [args[1] for args, _ in data.read(CPU)] == [1, 2]
    assert [args[1] for args, _ in data.read(CPU)] == [1, 2]


def test_a_batch_may_be_all_the_arguments() -> None:
    (((first, second), _),) = Batches([[X, 1]], None, tuple).read(CPU)
    assert torch.equal(first, X) and second == 1


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ("text", "data: expected batches that are tensors.*found 'text'; give inputs="),
        (("text", X), "found a tuple of 2 that begins with 'text'"),
        ((), r"found a tuple of 0;"),
        ({1: X}, "1 is none"),
    ],
)
def test_other_batches_are_refused(batch: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        list(Batches([batch]).read(CPU))


@pytest.mark.parametrize("data", [X, {"a": X}, "text", 3, iter([X])])
def test_what_yields_no_batches_is_refused(data: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="data: expected batches of inputs, as a list"):
        Batches(data)
