"""Train the control point of a Bezier curve, so that the loss is low all along it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..arguments import check_flag, check_function, check_kind, check_whole, refuse
from ..models.copying import deep_copy, set_modes
from ..models.randomness import OwnRandomness, keeping_random_state, seed_python
from ..models.validation import check_model
from .batch_losses import Loss, WithLoss, again_and_again
from .curves import Bezier, bent
from .measuring import check_data
from .tensors import check_fit, computing, tensors_of, varies

MakeOptimizer = Callable[[list[Tensor]], torch.optim.Optimizer]

adam = partial(torch.optim.Adam, lr=1e-3)
"""The optimizer by default."""


def train_bezier(
    a: nn.Module,
    b: nn.Module,
    *,
    loss: Loss,
    data: Iterable[Any],
    steps: int = 1000,
    optimizer: MakeOptimizer = adam,
    start: nn.Module | Mapping[str, Tensor] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Tensor]:
    """Find the control point of a curve from ``a`` to ``b`` along which the loss is low.

    At every step, a point of the curve is drawn, ``t`` uniformly between 0 and 1, and the control
    point follows the gradient of the loss there. So the mean of the loss over the curve's
    parameter is minimised. The ends stay what they are.

    >>> import torch
    >>> from torch import nn
    >>> import fxrebasin as fr
    >>> a, b = nn.Linear(4, 2), nn.Linear(4, 2)
    >>> batches = [(torch.randn(16, 4), torch.randint(2, (16,))) for _ in range(4)]
    >>> def loss(model, batch):
    ...     x, y = batch
    ...     return nn.functional.cross_entropy(model(x), y)
    >>> control = fr.train_bezier(a, b, loss=loss, data=batches, steps=20, progress=False)
    >>> x, y = batches[0]
    >>> path = fr.interpolate(a, b, lambda m: loss(m, (x, y)), curve=fr.curves.Bezier(control))

    The model at a point is a deep copy of ``a`` in training mode, with that point's weights in the
    place of its parameters. BatchNorm layers normalise by each batch, as in training: no running
    statistics fit a whole curve. Those of the control point are the means of the ends', and those
    along the curve are best measured afresh, by ``interpolate(..., loader=...)``. Parameters of
    ``a`` that want no gradient stay on the straight line. Neither model is changed, nor is torch's
    random state.

    Args:
        a: the model at t = 0.
        b: the model at t = 1: the same keys, shapes and dtypes in its state dict.
        loss: takes a model and a batch, returns a tensor with one entry, which is minimised.
        data: batches for ``loss``, iterated again and again; no iterator, which ends once. They
            are handed on as they are, so they must be on the device of ``a``.
        steps: how many batches to learn from, at least 1.
        optimizer: takes a list of tensors, returns an optimizer of ``torch.optim`` for them, such
            as ``functools.partial(torch.optim.SGD, lr=0.1)``; by default Adam with ``lr=1e-3``.
        start: the control point to begin with, a model or its state dict; by default the midpoint,
            with which the curve is the straight line.
        seed: of the points, of dropout, and of whatever shuffles ``data``.
        progress: show a progress bar if the standard error is a terminal.

    Returns:
        The state dict of the control point, for :class:`fxrebasin.curves.Bezier`. Tensors that are
        no floating point numbers are ``a``'s. Low precision is trained in float32.

    Raises:
        ArchitectureMismatchError: the models' state dicts do not fit each other.
        InvalidArgumentError: an option makes no sense, or ``loss`` returns something else than a
            finite number that depends on the parameters.

    Source:
        Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", NeurIPS
        2018, sections 3.1 and 3.2.
    """
    check_model(a, "a")
    check_model(b, "b")
    check_function(loss, "loss", "one that takes a model and a batch, and returns a loss")
    check_data(data, "data")
    check_kind(data, Iterable, "data", "batches, as a list or a DataLoader")
    check_whole(steps, "steps", least=1)
    check_function(optimizer, "optimizer", "functools.partial(torch.optim.SGD, lr=0.1)")
    check_whole(seed, "seed", least=0)
    check_flag(progress, "progress")
    ends = tensors_of(a), tensors_of(b)
    check_fit(*ends, named=("a", "b"))
    with torch.inference_mode(False), torch.enable_grad():
        training = _Training(a, *ends, loss)
        if start is not None:
            training.begin_at(Bezier(start))
        with keeping_random_state(training.model, always=True), OwnRandomness(seed):
            seed_python(seed)
            training.run(data, steps, optimizer, seed, progress)
        return training.state_dict()


class _Training:
    """A control point on its way.

    Args:
        model: of which a copy is worked on.
        start, end: the tensors of the ends.
        loss: of a model on a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        start: Mapping[str, Tensor],
        end: Mapping[str, Tensor],
        loss: Loss,
    ) -> None:
        self.model = deep_copy(model)
        set_modes(self.model, True)
        self.with_loss = WithLoss(self.model, loss)
        self.start, self.end = start, end
        parameters = dict(self.model.named_parameters())  # tied ones once
        self.dtypes = {name: p.dtype for name, p in parameters.items() if varies(p)}
        first, last = ({n: self._side(side, n) for n in self.dtypes} for side in (start, end))
        self.ends = first, last
        self.control = {name: torch.lerp(x, last[name], 0.5) for name, x in first.items()}
        self.learned = [
            name for name, p in parameters.items() if p.requires_grad and name in self.control
        ]
        if not self.learned:
            refuse("a", "a model with parameters that want gradients", model)

    def _side(self, tensors: Mapping[str, Tensor], name: str) -> Tensor:
        tensor = computing(tensors[name].detach().to(self.start[name].device))
        return tensor.clone() if tensor.is_inference() else tensor

    def begin_at(self, given: Bezier) -> None:
        given.check({name: self.start[name] for name in self.learned})
        for name in self.learned:
            self.control[name] = given.control[name].detach().to(self.control[name]).clone()

    def run(
        self,
        data: Iterable[Any],
        steps: int,
        optimizer: MakeOptimizer,
        seed: int,
        progress: bool,
    ) -> None:
        learned = [self.control[name].requires_grad_() for name in self.learned]
        stepping = optimizer(learned)
        check_kind(
            stepping, torch.optim.Optimizer, "optimizer", "a function that returns an optimizer"
        )
        drawn = torch.Generator().manual_seed(seed)
        batches = again_and_again(data)
        bar = tqdm(
            range(steps), desc="train_bezier", disable=None if progress else True, leave=False
        )
        for step in bar:
            t = torch.rand((), generator=drawn, dtype=torch.float64).item()
            stepping.zero_grad()
            value = self._loss_at(t, next(batches), step)
            value.backward()
            stepping.step()
            bar.set_postfix(loss=f"{value.item():.3g}", refresh=False)
        for name in self.learned:
            self.control[name].requires_grad_(False)

    def _loss_at(self, t: float, batch: Any, step: int) -> Tensor:
        weights = {
            name: bent(x, self.control[name], self.ends[1][name], t).to(dtype)
            for (name, x), dtype in zip(self.ends[0].items(), self.dtypes.values(), strict=True)
        }
        return self.with_loss.under(weights, batch, where=f"step {step + 1}, t = {t:.3g}")

    def state_dict(self) -> dict[str, Tensor]:
        """The control point under all names of the model's state dict, tied tensors still tied."""
        found: dict[str, Tensor] = {}
        names = {id(t): name for name, t in self.model.named_parameters()}
        own = dict(self.model.named_parameters(remove_duplicate=False))
        for name, x in self.start.items():
            if name in own and names[id(own[name])] in self.control:
                first = names[id(own[name])]
                if first not in found:
                    found[first] = self.control[first].to(self.dtypes[first])
                found[name] = found[first]
            elif varies(x):
                end = self.end[name].detach().to(x.device)
                found[name] = torch.lerp(computing(x.detach()), computing(end), 0.5).to(x.dtype)
            else:
                found[name] = x.detach().clone()
        return {name: found[name] for name in self.start}
