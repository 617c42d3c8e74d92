"""One copy of a model, to which weights are written and whose metrics are read, point by point."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, SupportsFloat

import torch
from torch import Tensor, nn

from ..arguments import check_function, check_whole
from ..errors import InvalidArgumentError
from ..models.copying import deep_copy, set_modes
from ..models.randomness import keeping_random_state
from ..models.validation import check_model
from ..repair.batch_norm import check_loader, recompute_batch_norm, tracked_layers
from .tensors import tensors_of

Evaluate = Callable[[nn.Module], SupportsFloat | Mapping[str, SupportsFloat]]
AtPoint = Callable[..., nn.Module]


class Measuring:
    """Measures metrics of a model under other weights than its own.

    Args:
        model: the model; a deep copy of it is worked on, in evaluation mode.
        evaluate: takes a model and returns its loss, or a mapping with ``"loss"``.
        loader, batches: if given, BatchNorm statistics are measured afresh on it at every point.
        at_point: if given, takes the model at a point, and, where it can take two arguments, the
            number of the point; the model that it returns is evaluated. It is given a copy, so
            that it may change what it likes.

    Raises:
        InvalidArgumentError: one of them is not as described.
    """

    def __init__(
        self,
        model: nn.Module,
        evaluate: Evaluate,
        *,
        loader: Iterable[object] | None = None,
        batches: int | None = None,
        at_point: AtPoint | None = None,
    ) -> None:
        check_function(evaluate, "evaluate", "one that takes a model and returns its loss")
        check_data(loader, "loader", batches)
        if at_point is not None:
            check_function(at_point, "at_point", "one that takes a model and t, and returns one")
        self.evaluate, self.loader, self.batches = evaluate, loader, batches
        self.at_point = at_point
        self.model = deep_copy(model)
        self.slots = tensors_of(self.model)
        self.parameters = {name for name, _ in self.model.named_parameters(remove_duplicate=False)}
        self.recomputes = loader is not None and bool(tracked_layers(self.model))
        self._names: list[str] | None = None
        self._first = ""

    def at(
        self,
        t: float,
        weights: Callable[[str], Tensor],
        *,
        seen: Callable[[nn.Module], None] = lambda model: None,
        where: str = "",
    ) -> dict[str, float]:
        """Write weights, and evaluate. Tied tensors stay tied, and torch's random state what it is.

        Args:
            t: the number of the point, for ``at_point``.
            weights: what to write, by name.
            seen: is shown the model that is evaluated, before it is.
            where: the point, as errors call it; by default by ``t``.

        Raises:
            InvalidArgumentError: ``evaluate`` or ``at_point`` returned something else than
                expected.
        """
        where = where or f"t = {t:.3g}"
        with keeping_random_state(self.model, always=True):
            with torch.no_grad():
                for name, slot in self.slots.items():
                    slot.copy_(weights(name))
            if self.loader is not None:
                recompute_batch_norm(self.model, self.loader, batches=self.batches, inplace=True)
            set_modes(self.model, False)
            model = self._prepared(t)
            seen(model)
            metrics = metrics_of(self.evaluate(model))
        if self._names is None:
            self._names = [*metrics]
            self._first = where
        if self._names != [*metrics]:
            raise InvalidArgumentError(
                f"evaluate returned the metrics {self._names} at {self._first}, "
                f"but {[*metrics]} at {where}"
            )
        return metrics

    def _prepared(self, t: float) -> nn.Module:
        if self.at_point is None:
            return self.model
        copied = deep_copy(self.model)
        given = (copied, t) if _takes_two(self.at_point) else (copied,)
        prepared = self.at_point(*given)
        check_model(prepared, "what at_point returns")
        set_modes(prepared, False)
        return prepared


def check_data(loader: object, name: str, batches: object = None) -> None:
    """Refuse what cannot be read once per point, and what is no number of batches.

    Raises:
        InvalidArgumentError: naming the argument.
    """
    if loader is not None:
        check_loader(loader, name)
    if batches is not None:
        check_whole(batches, "batches", least=1)
    if isinstance(loader, Iterator):
        raise InvalidArgumentError(
            f"{name} is read more than once, and an iterator or generator can be read only once: "
            "pass a list or a DataLoader"
        )


def metrics_of(result: object) -> dict[str, float]:
    """Read what ``evaluate`` returned, the loss first.

    Raises:
        InvalidArgumentError: these are no numbers, or none is the loss.
    """
    values: dict[Any, Any] = dict(result) if isinstance(result, Mapping) else {"loss": result}
    if "loss" not in values:
        raise InvalidArgumentError(
            f"evaluate must return a number or a mapping with 'loss', got the keys {[*values]}"
        )
    numbers = {}
    for name, value in {"loss": values["loss"], **values}.items():
        try:
            if isinstance(value, str | bytes):
                raise TypeError("text is not a number")
            # torch warns of a loss that still has its graph; nobody needs that graph here.
            numbers[str(name)] = float(value.detach() if isinstance(value, Tensor) else value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidArgumentError(
                f"evaluate must return numbers, got {type(value).__name__} for {name!r}: {error}"
            ) from error
    return numbers


def _takes_two(function: Callable[..., object]) -> bool:
    """Can it be called with two arguments in order? Options given by ``partial`` count."""
    try:
        inspect.signature(function).bind(None, 0.0)
    except TypeError:
        return False
    except ValueError:  # of some functions in C nothing is known
        return True
    return True
