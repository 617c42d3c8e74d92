"""What all threads of a process share is as before while and after a model is analysed."""

from __future__ import annotations

import random
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.fx import _symbolic_trace as fx_tracing

import fxrebasin as fr
from fxrebasin.models import exclusive
from fxrebasin.models.running import run


def make() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 2))


def test_threads_analyse_while_others_train_and_draw() -> None:
    """A thread that trains is not disturbed, nor one that draws random numbers."""
    failures: list[BaseException] = []
    steps, done = [0], threading.Event()

    def analyse(front_end: Any) -> None:
        try:
            for _ in range(2):
                found = fr.analyze(make(), args=(torch.ones(2, 3),), front_ends=[front_end])
                assert found.movable_units == 5
        except BaseException as error:
            failures.append(error)

    def train() -> None:
        model, x = make(), torch.ones(2, 3)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        try:
            while not done.is_set():
                model(x).sum().backward()
                optimizer.step()
                steps[0] += 1
        except BaseException as error:
            failures.append(error)

    names = ("symbolic_trace", "export", "symbolic_trace", "eager")
    analysts = [threading.Thread(target=analyse, args=(name,)) for name in names]
    trainer = threading.Thread(target=train)
    for thread in (trainer, *analysts):
        thread.start()
    for thread in analysts:
        thread.join()
    done.set()
    trainer.join()
    assert not failures
    assert steps[0] > 0


def test_running_a_model_does_not_reseed_the_process() -> None:
    drawn: list[torch.Tensor] = []

    class Draws(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x + torch.rand(3)
            drawn.append(torch.rand(2))  # in our own source, as this thread's model
            thread = threading.Thread(target=lambda: others.append(torch.rand(2)))
            thread.start()
            thread.join()
            return y

    others: list[torch.Tensor] = []
    torch.manual_seed(7)
    expected = [torch.rand(2), torch.rand(2), torch.rand(2)]
    torch.manual_seed(7)
    first, second = (run(Draws(), (torch.zeros(3),), {})[0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(drawn[0], drawn[1])
    for e, f in zip(expected, [*others, torch.rand(2)], strict=True):
        assert torch.equal(e, f)


def test_numbers_of_python_and_numpy_are_the_same_in_every_run_and_put_back() -> None:
    class Draws(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + random.random() + np.random.rand()  # noqa: NPY002

    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
    first, second = (run(Draws(), (torch.zeros(3),), {})[0] for _ in range(2))
    assert torch.equal(first, second)
    assert before[0] == random.getstate()
    assert before[1] == np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002


@pytest.mark.parametrize("seed", [3, 7])
def test_a_model_that_seeds_leaves_the_random_state(seed: int) -> None:
    class Seeds(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.manual_seed(seed)
            return x

    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    run(Seeds(), (torch.zeros(3),), {})
    assert torch.equal(torch.rand(2), expected)


WATCHED = {fx_tracing.__file__, exclusive.__file__}


def interrupted_at(count: int) -> bool:
    """Analyse, and interrupt at one of the lines that patch torch and put it back."""
    seen = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal seen
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            seen += 1
            if seen == count:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        fr.analyze(make(), args=(torch.ones(2, 3),), check=False)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interrupt_leaves_torch_as_it_was() -> None:
    call, getattribute = nn.Module.__call__, nn.Module.__dict__["__getattr__"]
    assert Path(fx_tracing.__file__).name == "_symbolic_trace.py"
    points = [*range(1, 60, 4), *range(60, 1000, 37)]
    assert interrupted_at(points[0])
    for count in points:
        interrupted_at(count)
        assert nn.Module.__call__ is call, count
        assert nn.Module.__dict__["__getattr__"] is getattribute, count
        assert fx_tracing._Patcher.__module__ == fx_tracing.__name__, count
        assert fx_tracing.CURRENT_PATCHER is None, count
        assert not exclusive._lock._is_owned(), count  # type: ignore[attr-defined]
    assert fr.analyze(make(), args=(torch.ones(2, 3),)).movable_units == 5
