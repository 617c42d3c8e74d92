"""BatchNorm statistics that fit the weights they stand beside.

The running mean and variance of a BatchNorm layer describe the activations that its network's
*own* weights produced in training. A network made of two others, say the midpoint of a line in
weight space, produces different activations (their variance collapses), and the average of the two
networks' statistics describes neither. So whoever evaluates such a network first runs it over
some training data and measures the statistics afresh:

>>> import torch
>>> from torch import nn
>>> layer = nn.BatchNorm1d(1)
>>> batches = [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])]
>>> recompute_batch_norm(layer, batches).running_mean
tensor([4.])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..arguments import check_flag, refuse
from ..errors import InvalidArgumentError
from ..models.copying import deep_copy, set_modes
from ..models.randomness import keeping_random_state
from ..models.validation import check_model

ModuleT = TypeVar("ModuleT", bound=nn.Module)
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def recompute_batch_norm(
    model: ModuleT, loader: Iterable[object], *, batches: int | None = None, inplace: bool = False
) -> ModuleT:
    """Measure the running statistics of every BatchNorm layer afresh on a loader's inputs.

    Only the BatchNorm layers run in train mode: dropout and everything else stay as in
    evaluation. Each layer's statistics are reset and become the plain average of the
    statistics of the batches, every batch counting alike whatever its size. Momentum, the mode of
    every module, and all parameters are afterwards what they were; where the loader or the model
    fails, the statistics are as well. Layers without running
    statistics (``track_running_stats=False``) have nothing to measure, and a model without
    BatchNorm layers is not run at all.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout())
    >>> fresh = recompute_batch_norm(model, [torch.randn(8, 3) for _ in range(5)], batches=2)
    >>> int(fresh[1].num_batches_tracked), int(model[1].num_batches_tracked)
    (2, 0)

    Args:
        model: any module, or a ``torch.fx.GraphModule`` that calls BatchNorm layers as modules.
        loader: yields input tensors, or tuples or lists whose first entry is the input tensor
            (the rest, such as labels, is ignored). It is iterated once.
        batches: how many batches to use; ``None`` is all of them.
        inplace: write into ``model`` and return it, instead of into a deep copy. If the loader or
            the model fails midway, the model is left as it was.

    Returns:
        The model with fresh statistics: a deep copy, or ``model`` itself if ``inplace``.

    Raises:
        InvalidArgumentError: ``batches`` is not a positive whole number, or the loader yields
            nothing, or something that holds no tensor.

    Source:
        Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, UAI
        2018 (``torch.optim.swa_utils.update_bn``); Jordan et al., REPAIR, ICLR 2023.
    """
    check_model(model, "model")
    check_loader(loader)
    check_flag(inplace, "inplace")
    if batches is not None and (isinstance(batches, bool) or not isinstance(batches, int)):
        raise InvalidArgumentError(f"batches must be None or a whole number, got {batches!r}")
    if batches is not None and batches < 1:
        raise InvalidArgumentError(f"batches must be at least 1, got {batches}")
    target = model if inplace else deep_copy(model)
    layers = tracked_layers(target)
    if not layers:
        return target

    def read(device: torch.device) -> Iterator[Arguments]:
        count = 0
        for batch in islice(loader, batches):
            count += 1
            yield (_input_of(batch).to(device),), {}
        if not count:
            raise InvalidArgumentError(
                "loader yielded no batch, so there are no activations to measure; "
                "a generator can be read only once, a list or a DataLoader any number of times"
            )

    measure_batch_norm(target, layers, read)
    return target


def measure_batch_norm(
    model: nn.Module,
    layers: Sequence[_BatchNorm],
    read: Callable[[torch.device], Iterator[Arguments]],
) -> int:
    """Measure the running statistics of some layers of a model afresh, in place.

    Args:
        model: whose other modules stay as in evaluation.
        layers: with running statistics.
        read: gives, for the device of the model, the arguments for each batch.

    Returns:
        How many batches there were.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    count = 0
    with (
        torch.no_grad(),
        keeping_random_state(model, always=True),
        _only_training(model, layers),
        _unless_it_fails(model),
    ):
        batches = read(device)
        # The first batch is read before anything is reset: no data leaves the model as it was.
        first = next(batches)
        for layer in layers:
            _BatchNorm.reset_running_stats(layer)
        for args, kwargs in chain([first], batches):
            model(*args, **kwargs)
            count += 1
    return count


def check_loader(given: object, name: str = "loader") -> None:
    """Refuse what yields no batches. A tensor would yield its rows, a dict its keys.

    Raises:
        InvalidArgumentError: naming the argument.
    """
    wrong = (str, bytes, Mapping, Tensor, nn.Module)
    if not hasattr(given, "__iter__") or isinstance(given, (*wrong, type)):
        refuse(name, "batches of inputs, as a list or a DataLoader", given)


def tracked_layers(model: nn.Module) -> list[_BatchNorm]:
    """Give the BatchNorm layers of a model that keep running statistics.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False))
    >>> tracked_layers(model) == [model[0]]
    True
    """
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


@contextmanager
def _only_training(model: nn.Module, layers: Sequence[_BatchNorm]) -> Iterator[None]:
    """Put ``layers`` into train mode with a cumulative average, the rest into evaluation."""
    modes = [(module, module.training) for module in model.modules()]
    momenta = [(layer, layer.momentum) for layer in layers]
    try:
        set_modes(model, False)
        for layer in layers:
            layer.training = True
            layer.momentum = None  # None is torch's way to ask for the cumulative average
        yield
    finally:
        # Flag by flag, since .train() would give a frozen child its parent's mode.
        for module, mode in modes:
            module.training = mode
        for layer, momentum in momenta:
            layer.momentum = momentum


@contextmanager
def _unless_it_fails(model: nn.Module) -> Iterator[None]:
    """Put all buffers back if the loader or the model fails midway."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    except BaseException:
        for buffer, value in before:
            buffer.copy_(value)
        raise


def _input_of(batch: object) -> Tensor:
    first = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(first, Tensor):
        raise InvalidArgumentError(
            "loader must yield tensors, or tuples or lists that begin with one, "
            f"got {type(batch).__name__}"
            + ("" if first is batch else f" beginning with {type(first).__name__}")
        )
    return first
