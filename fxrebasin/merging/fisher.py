"""The diagonal Fisher information of a model's parameters: how much each matters to what it says.

For an example ``x`` it is the square of the derivative of the log-likelihood of a label, averaged
over labels that the model itself would draw, or taken for the label that the example has: the
empirical Fisher. Squares are of the derivative for *one* example; that of the mean loss of a batch,
squared, is something else, and far smaller.

>>> import torch
>>> model = torch.nn.Linear(1, 1, bias=False)
>>> examples = [(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [0.0]]))]
>>> linear = fisher(model, examples, loss=lambda output, target: output.sum(), progress=False)
>>> linear["weight"]
tensor([[2.5000]])
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from tqdm.auto import tqdm

from ..arguments import check_flag, check_function, check_whole, refuse
from ..errors import InvalidArgumentError, SlowerWarning
from ..models.running import unobserved
from ..models.surroundings import neutral
from ..models.validation import check_parameters

Loss = Callable[[Any, Any], Tensor]
"""From what the model returns for a batch of one example, and its target, to a number."""


@neutral()
def fisher(
    model: nn.Module,
    data: Iterable[object],
    *,
    loss: Loss = F.cross_entropy,
    labels: str = "given",
    batches: int | None = None,
    inputs: Callable[[Any], tuple[Any, ...]] | None = None,
    at_once: int = 16,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Tensor]:
    """Measure the diagonal of the Fisher information of a model on data, example by example.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> data = [(torch.randn(10, 4), torch.randint(3, (10,))) for _ in range(5)]
    >>> empirical = fr.fisher(net, data, progress=False)
    >>> true = fr.fisher(net, data, labels="sampled", progress=False)
    >>> empirical.keys() == true.keys() == dict(net.named_parameters()).keys()
    True

    Args:
        model: any module. It runs in eval mode, and is afterwards what it was, gradients included.
        data: batches, the first dimension of whose tensors is that of the examples. A batch is a
            tuple or list of the input tensor and the target, or a mapping of keywords for the
            model, of which ``"labels"`` is the target and no keyword. A tensor alone is an input
            without target.
        loss: takes what the model returns for a batch of one example, and the target as a batch of
            one, and returns the negative log-likelihood; by default that of classes under the
            softmax of logits.
        labels: ``"given"`` takes the targets of the data: the empirical Fisher. ``"sampled"`` draws
            a label for every example from the softmax of the logits that the model returns, of
            shape ``(n, classes)`` or ``(n, classes, ...)``: an unbiased estimate of the true
            Fisher. ``loss`` and targets then play no role.
        batches: how many batches to use; None is all of them.
        inputs: takes a batch, and returns the positional arguments of the model; ``tuple``, where
            all of it is.
        at_once: how many examples' gradients are held in memory together. ``torch.func.vmap``
            computes them together, where the model allows it; else they are computed one by one.
        seed: of the labels that are drawn.
        progress: show a progress bar.

    Returns:
        For every name of every parameter, the mean over all examples of the squared gradients, in
        float32 or more, where the parameter is; 0 where no gradient is wanted.

    Memory: the result, and the gradients of ``at_once`` examples.

    Raises:
        InvalidArgumentError: an option makes no sense, ``data`` holds no batch or not such
            batches, or the loss is no single number.
        InvalidParameterError: a parameter is not finite, not dense, ...

    Warns:
        SlowerWarning: ``torch.func.vmap`` cannot run the model.

    Source:
        M. Matena and C. Raffel, "Merging Models with Fisher-Weighted Averaging", NeurIPS 2022,
        section 3.2; F. Kunstner, L. Balles and P. Hennig, "Limitations of the Empirical Fisher
        Approximation", NeurIPS 2019, on the difference between the two.
    """
    check_parameters(model, "model")
    _check_data(data)
    check_function(loss, "loss", "torch.nn.functional.cross_entropy")
    if not isinstance(labels, str) or labels not in ("given", "sampled"):
        refuse("labels", "'given' or 'sampled'", labels)
    if batches is not None:
        check_whole(batches, "batches", least=1)
    if inputs is not None and inputs is not tuple:
        check_function(inputs, "inputs", "one from a batch to a tuple of arguments, or None")
    check_whole(at_once, "at_once", least=1)
    check_whole(seed, "seed", least=0)
    check_flag(progress, "progress")
    squares = Squares(model, labels == "sampled", loss, seed)
    bar = tqdm(desc="Fisher information", unit="batch", disable=None if progress else True)
    with bar:
        for batch in islice(data, batches):
            squares.add(*_parts(batch, inputs), at_once=at_once)
            bar.update()
    if not squares.count:
        raise InvalidArgumentError(
            "data: expected at least one batch, found none; a generator can be read only once, a "
            "list or a DataLoader any number of times"
        )
    return squares.mean()


Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Squares:
    """The sum over examples of the squared gradients of a model's parameters."""

    def __init__(self, model: nn.Module, sampled: bool, loss: Loss, seed: int) -> None:
        self.model, self.sampled, self.loss = model, sampled, loss
        self.names: dict[str, str] = {}
        owners: dict[int, str] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            self.names[name] = owners.setdefault(id(parameter), name)
        named = dict(model.named_parameters())
        self.parameters = {n: p.detach() for n, p in named.items() if p.requires_grad}
        self.totals = {
            n: torch.zeros_like(p, dtype=torch.promote_types(_real(p.dtype), torch.float32))
            for n, p in named.items()
        }
        self.device = next(iter(named.values())).device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.count = 0
        self._vmap = True

    def add(self, arguments: Arguments, target: Any, *, at_once: int) -> None:
        """Add the examples of a batch."""
        if target is None and not self.sampled and self.loss is F.cross_entropy:
            raise InvalidArgumentError(
                "data: expected batches with a target, as (x, labels) or a mapping with 'labels', "
                "found one without; give labels='sampled', or a loss that needs none"
            )
        given = (*arguments, None if self.sampled else target)
        given = pytree.tree_map_only(Tensor, lambda t: t.detach().to(self.device), given)
        count = _count(given)
        with unobserved(self.model, gradients=True, seed=None):
            for begin in range(0, count, at_once):
                end = min(begin + at_once, count)
                part = _examples(given, begin, end)
                self._add(part, end - begin)
        self.count += count

    def mean(self) -> dict[str, Tensor]:
        """Over all examples, for every name."""
        means = {name: total.div_(self.count) for name, total in self.totals.items()}
        return {name: means[owner] for name, owner in self.names.items()}

    def _add(self, part: Any, count: int) -> None:
        if self.sampled:
            part = (*part[:2], self._draw(part))
        if self._vmap and count > 1:
            try:
                squares = self._together(part)
            except Exception as error:
                # Whatever is wrong with the model or the loss, and not with vmap, comes up again.
                self._one_by_one(part, count)
                self._vmap = False
                warnings.warn(
                    "torch.func.vmap cannot compute the gradients of several examples at once "
                    f"({type(error).__name__}: {str(error).splitlines()[0][:100]}), so they are "
                    "computed one by one",
                    SlowerWarning,
                    stacklevel=5,
                )
                return
            for name, square in squares.items():
                self.totals[name] += square
            return
        self._one_by_one(part, count)

    def _together(self, part: Any) -> dict[str, Tensor]:
        leaves, form = pytree.tree_flatten(part)
        where = [0 if isinstance(leaf, Tensor) else None for leaf in leaves]

        def of_one(parameters: dict[str, Tensor], *one: Any) -> Tensor:
            whole = [x[None] if isinstance(x, Tensor) else x for x in one]
            return self._loss(parameters, pytree.tree_unflatten(whole, form))

        gradient = torch.func.vmap(
            torch.func.grad(of_one), in_dims=(None, *where), randomness="different"
        )
        found = gradient(self.parameters, *leaves)
        return {name: _square(g, self.totals[name].dtype).sum(0) for name, g in found.items()}

    def _one_by_one(self, part: Any, count: int) -> None:
        for k in range(count):
            one = _examples(part, k, k + 1)
            wanted = {n: p.detach().requires_grad_() for n, p in self.parameters.items()}
            found = torch.autograd.grad(
                self._loss(wanted, one), list(wanted.values()), allow_unused=True
            )
            for name, gradient in zip(wanted, found, strict=True):
                if gradient is not None:
                    self.totals[name] += _square(gradient, self.totals[name].dtype)

    def _loss(self, parameters: dict[str, Tensor], one: Any) -> Tensor:
        args, kwargs, target = one
        output = torch.func.functional_call(self.model, parameters, args, kwargs)
        if self.sampled:
            return F.cross_entropy(_logits(output), target, reduction="sum")
        if self.loss is F.cross_entropy:
            output = _logits(output)
        value = self.loss(output, target)
        if not isinstance(value, Tensor) or value.numel() != 1:
            refuse("loss", "a function that returns a tensor of one number", value)
        return value.reshape(())

    def _draw(self, part: Any) -> Tensor:
        """Labels from the softmax of the model's logits."""
        args, kwargs, _ = part
        with torch.no_grad():
            logits = _logits(self.model(*args, **kwargs))
            chances = logits.detach().movedim(1, -1).float().softmax(-1)
            flat = chances.reshape(-1, chances.shape[-1])
            drawn = torch.multinomial(flat, 1, generator=self.generator)
        return drawn.reshape(chances.shape[:-1])


def _examples(given: Any, begin: int, end: int) -> Any:
    """Some examples of a batch."""

    def cut(tensor: Tensor) -> Tensor:
        return tensor[begin:end]

    return pytree.tree_map_only(Tensor, cut, given)


def _count(given: Any) -> int:
    """How many examples a batch has: the first size of all of its tensors."""
    sizes = [tuple(t.shape) for t in pytree.tree_leaves(given) if isinstance(t, Tensor)]
    counts = {shape[0] if shape else None for shape in sizes}
    if len(counts) != 1 or None in counts:
        raise InvalidArgumentError(
            "data: expected batches in which the first dimension of every tensor is that of the "
            f"examples, found tensors of shapes {sizes}; give inputs=, which takes a batch and "
            "returns the arguments of the model"
        )
    (count,) = counts
    assert count is not None
    return count


def _logits(output: object) -> Tensor:
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or logits.ndim < 2 or not logits.is_floating_point():
        refuse(
            "model",
            "one that returns logits of shape (n, classes) or (n, classes, ...), or an object "
            "with such .logits",
            logits,
            "or give a loss that takes what it returns",
        )
    return logits


def _square(gradient: Tensor, dtype: torch.dtype) -> Tensor:
    return gradient.detach().abs().to(dtype).square()


def _real(dtype: torch.dtype) -> torch.dtype:
    return torch.empty(0, dtype=dtype).real.dtype if dtype.is_complex else dtype


def _check_data(data: object) -> None:
    wrong = (str, bytes, Mapping, Tensor, nn.Module, type)
    if not isinstance(data, Iterable) or isinstance(data, wrong):
        refuse("data", "batches, as a list or a DataLoader", data)


def _parts(batch: object, inputs: Callable[[Any], tuple[Any, ...]] | None) -> tuple[Arguments, Any]:
    """The arguments of the model, and the target."""
    target = None
    if isinstance(batch, Mapping):
        target = batch.get("labels")
    elif isinstance(batch, (tuple, list)) and len(batch) > 1:
        target = batch[1]
    if inputs is not None:
        args = inputs(batch)
        if not isinstance(args, tuple):
            refuse("inputs", "a function that returns a tuple of arguments", args)
        return (args, {}), target
    if isinstance(batch, Mapping):
        return ((), {str(k): v for k, v in batch.items() if k != "labels"}), target
    first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(first, Tensor):
        refuse(
            "data",
            "batches that are a tensor, a tuple or list that begins with one, or a mapping of "
            "keywords",
            batch,
            "give inputs=, which takes a batch and returns the arguments of the model",
        )
    return ((first,), {}), target
