"""The model between A and B as a function of a transform of B, and the descent of its loss."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm

from ..merging.batch_losses import Loss, WithLoss
from ..merging.tensors import computing, varies
from ..models.copying import deep_copy, set_modes
from ..models.randomness import OwnRandomness
from ..symmetry.group import Symmetry
from ..symmetry.linear_action import LinearAction
from ..symmetry.parts import ParameterSymmetry
from ..symmetry.transform import Transform
from .report import LearningCallback, LearningStep
from .rotations import matrices_of, rotations_of

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Schedule:
    """How long is learned, how fast, and from which models between the two."""

    steps: int
    learning_rate: float
    between: tuple[float, float]

    def rate(self, step: int) -> float:
        """The share of the learning rate: all of it for one half, less and less in the other."""
        return min(1.0, 2 * (1 - step / self.steps))


class Learner:
    """A transform on its way.

    Args:
        symmetry: of B; some of its blocks can be mixed.
        model: of A, of which a copy is worked on.
        ends: the stored tensors of A and B, by name.
        loss: of a model on a batch.
        randomness: what the loss, and whatever yields batches, draw from.
    """

    def __init__(
        self,
        symmetry: Symmetry,
        model: nn.Module,
        ends: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
        loss: Loss,
        randomness: OwnRandomness,
    ) -> None:
        self.symmetry = symmetry
        self._randomness = randomness  # not around all: it slows every op down
        self.model = deep_copy(model)
        set_modes(self.model, False)
        self._with_loss = WithLoss(self.model, loss)
        own = [*self.model.named_parameters(), *self.model.named_buffers()]  # tied ones once
        self._dtypes = {name: t.dtype for name, t in own if varies(t)}
        self._a, self._b = (
            {name: _computing(side[name], t.device) for name, t in own if varies(t)}
            for side in ends
        )
        first = next(iter(self._b.values()))
        dtype = max((t.dtype for t in self._b.values()), key=lambda d: d.itemsize)
        self._rotations = rotations_of(symmetry, dtype=dtype, device=first.device)
        self._moving = dict(self._find_moving())
        self.losses: list[float] = []
        self.inputs: Inputs | None = None
        """What the loss has called the model with first."""

    @property
    def dimension(self) -> int:
        return sum(rotation.dimension for rotation in self._rotations.values())

    def _find_moving(self) -> Iterator[tuple[str, ParameterSymmetry]]:
        for parameter in self.symmetry.parameters:
            blocks = {b for g in parameter.groups for s in g.segments for b in s.blocks}
            if blocks & self._rotations.keys():
                yield from ((name, parameter) for name in parameter.names if name in self._b)

    def run(
        self,
        batches: Iterator[Any],
        schedule: Schedule,
        *,
        seed: int,
        callback: LearningCallback | None,
        progress: bool,
    ) -> None:
        """Take steps, each on a batch and at a point between the models that is drawn."""
        begin = time.perf_counter()
        free = [rotation.free for rotation in self._rotations.values()]
        optimizer = torch.optim.Adam(free, lr=schedule.learning_rate)
        decay = LambdaLR(optimizer, schedule.rate)
        drawn = torch.Generator().manual_seed(seed)
        low, high = schedule.between
        hidden = None if progress else True
        with tqdm(range(schedule.steps), desc="refine", disable=hidden, leave=False) as bar:
            for step in bar:
                share = torch.rand((), generator=drawn, dtype=torch.float64).item()
                with self._randomness:
                    batch = next(batches)
                value = self._loss_at(low + (high - low) * share, batch, step)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                decay.step()
                self.losses.append(value.item())
                bar.set_postfix(loss=f"{self.losses[-1]:.4g}", refresh=False)
                if callback is not None:
                    seconds = time.perf_counter() - begin
                    try:
                        callback(LearningStep(step + 1, self.losses[-1], seconds))
                    except StopIteration:
                        return

    def _loss_at(self, t: float, batch: Any, step: int) -> Tensor:
        moved = self._moved()
        weights = {
            name: torch.lerp(self._a[name], moved.get(name, b), t).to(self._dtypes[name])
            for name, b in self._b.items()
        }
        hook = self.model.register_forward_pre_hook(self._remember, with_kwargs=True)
        try:
            with self._randomness:
                where = f"step {step + 1}, {t:.3g} of the way from A to B"
                return self._with_loss.under(weights, batch, where=where)
        finally:
            hook.remove()

    def _remember(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        if self.inputs is None:
            self.inputs = args, kwargs

    def _moved(self) -> dict[str, Tensor]:
        """The tensors of B that rotations move, as differentiable functions of them."""
        matrices, inverses = matrices_of(self._rotations)
        action = LinearAction(self.symmetry.blocks, self.symmetry.kinds, {}, {}, matrices, inverses)
        return {name: action.act(p, self._b[name]) for name, p in self._moving.items()}

    def transform(self) -> Transform:
        """What has been learned, with all digits."""
        exact = {name: rotation.in_double() for name, rotation in self._rotations.items()}
        matrices = {name: m.cpu() for name, m in matrices_of(exact)[0].items()}
        identity = Transform.identity(self.symmetry)
        return Transform(self.symmetry, identity.indices, matrices=matrices)


def _computing(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor that gradients may flow through, in a precision that they need."""
    found = computing(tensor.detach()).to(device)
    return found.clone() if found.is_inference() else found
