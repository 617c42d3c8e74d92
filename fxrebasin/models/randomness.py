"""Random numbers for the models that the library runs, without touching those of other threads.

Two models are compared on the same random numbers. Torch has one source of them per device for all
threads of a process; seeding it anew would give other threads other numbers. So every op that draws
is given a source of our own, or, where it takes none, the state is changed for that op alone.

>>> import torch
>>> with torch.no_grad(), OwnRandomness(0):
...     torch.rand(1)
tensor([0.4963])
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

SEED = 0x5EED


class OwnRandomness(TorchDispatchMode):
    """Ops inside draw from sources of our own, which begin with a seed."""

    supports_higher_order_operators = True

    def __init__(self, seed: int = SEED) -> None:
        super().__init__()
        self.seed = seed
        self.sources: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in getattr(func, "tags", ()):
            return func(*args, **kwargs)
        shared = {torch.device("cpu"): torch.default_generator}
        if torch.cuda.is_initialized():
            shared |= {g.device: g for g in torch.cuda.default_generators}
        before = {device: generator.get_state() for device, generator in shared.items()}
        for device, generator in shared.items():
            generator.set_state(self._source(device).get_state())
        try:
            return func(*args, **kwargs)
        finally:
            for device, generator in shared.items():
                self._source(device).set_state(generator.get_state())
                generator.set_state(before[device])

    def _source(self, device: torch.device) -> torch.Generator:
        if device not in self.sources:
            self.sources[device] = torch.Generator(device).manual_seed(self.seed)
        return self.sources[device]


def seed_python(seed: int) -> None:
    """The sources of Python and numpy, which some models draw from; threads cannot be told apart
    there, so ``keeping_random_state`` puts them back in any case."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what models use


@contextmanager
def keeping_random_state(model: nn.Module, *, always: bool = False) -> Iterator[None]:
    """What a model does to sources of random numbers, its own included, is undone.

    Other threads draw from torch's as well, so these are put back only if the model has seeded
    them anew; ``always`` also where it has only drawn, so that whatever is run next draws the same.
    """
    sources = [torch.default_generator]
    for index in sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"}):
        sources.append(torch.cuda.default_generators[index])
    before = [(s, s.initial_seed(), s.get_state()) for s in sources]
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)  # noqa: NPY002
        alone = always or threading.active_count() == 1
        for source, seed, state in before:
            if source.initial_seed() != seed or (
                alone and not torch.equal(source.get_state(), state)
            ):
                source.set_state(state)
