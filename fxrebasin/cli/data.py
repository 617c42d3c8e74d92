"""Batches that the command line names, and the loss of a model on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints.opening import PICKLED, open_checkpoint
from ..errors import InvalidArgumentError
from ..merging.measuring import Evaluate
from ..models.running import run
from .models import Subject, imported, moved_to

BATCH = 64
RANDOM_INPUTS = 16
OUTPUT_DISTANCE = "output distance"
"""What is measured where there are no data; see :func:`output_distance`."""
TINY = torch.finfo(torch.float64).tiny


def batches_of(spec: str, subject: Subject) -> list[Any]:
    """The batches that a text names: tuples of inputs and labels, or dicts of keyword arguments.

    Raises:
        InvalidArgumentError: it names none.
        FileFormatError, OSError: the file cannot be read.
    """
    if Path(spec).suffix in (".safetensors", *PICKLED):
        tensors = dict(open_checkpoint(spec))
        found = _cut(tensors, spec)
    else:
        place, colon, name = spec.partition(":")
        if not colon:
            raise InvalidArgumentError(
                f"--data: expected a .pt or .safetensors file, or package.module:factory, found "
                f"{spec!r}"
            )
        found = list(imported(place, name)())
    if not found:
        raise InvalidArgumentError(f"--data: {spec!r} has no batches")
    return [moved_to(batch, subject.module) for batch in found]


def _cut(tensors: Mapping[str, Tensor], spec: str) -> list[Any]:
    lengths = {len(t) if t.dim() else 0 for t in tensors.values()}
    if len(lengths) != 1:
        raise InvalidArgumentError(
            f"--data: the tensors of {spec!r} have other lengths, {sorted(lengths)}; expected an "
            "entry for each example"
        )
    pieces = {name: tensor.split(BATCH) for name, tensor in tensors.items()}
    if "inputs" not in tensors:
        return [
            dict(zip(pieces, batch, strict=True)) for batch in zip(*pieces.values(), strict=True)
        ]
    order = ["inputs", *(name for name in ("labels",) if name in tensors)]
    return [*zip(*(pieces[name] for name in order), strict=True)]


def loss_on(batches: Iterable[Any]) -> Evaluate:
    """What a model loses on batches: its own loss, of the next token, or cross entropy.

    Raises:
        InvalidArgumentError: a batch has no labels.
    """
    batches = list(batches)
    for batch in batches:
        has_labels = "labels" in batch or "input_ids" in batch
        if not (has_labels if isinstance(batch, Mapping) else _is_pair(batch)):
            raise InvalidArgumentError(
                "--data: expected batches of inputs and labels, found inputs only; a loss needs "
                "labels"
            )

    def evaluate(model: nn.Module) -> dict[str, float]:
        losses, right, count = 0.0, 0.0, 0
        with torch.no_grad():
            for batch in batches:
                loss, correct, size = _loss(model, batch)
                losses += loss * size
                right += correct
                count += size
        metrics = {"loss": losses / count}
        return (
            metrics if isinstance(batches[0], Mapping) else {**metrics, "accuracy": right / count}
        )

    return evaluate


def _is_pair(batch: object) -> bool:
    return isinstance(batch, Sequence) and len(batch) == 2


def _loss(model: nn.Module, batch: Any) -> tuple[float, float, int]:
    if isinstance(batch, Mapping):
        labels = batch["labels"] if "labels" in batch else batch["input_ids"]
        return float(model(**{**batch, "labels": labels}).loss), 0.0, len(labels)
    inputs, labels = batch
    logits = model(inputs)
    logits = getattr(logits, "logits", logits)
    correct = (logits.argmax(1) == labels).sum()
    return float(F.cross_entropy(logits.float(), labels)), float(correct), len(labels)


def output_distance(a: nn.Module, b: nn.Module, subject: Subject) -> Evaluate:
    """How far outputs on random inputs are from all that lies between those of A and B: no loss,
    but a measure of what a merged model has lost that needs no data.

    It is the squared distance from the segment between the outputs of A and of B, relative to the
    mean of their squared sizes: 0 for A and B themselves, and for what mixes what they say.
    """
    args, kwargs = _random_inputs(subject)

    def outputs(model: nn.Module) -> Tensor:
        found = (x for x in run(model, args, kwargs) if x.is_floating_point())
        return torch.cat([x.double().flatten() for x in found])

    one, other = outputs(a), outputs(b)
    across = other - one
    size = float(one.square().sum() + other.square().sum()) / 2

    def evaluate(model: nn.Module) -> float:
        away = outputs(model) - one
        share = float(away.dot(across) / across.square().sum().clamp(min=TINY))
        nearest = across * min(max(share, 0.0), 1.0)
        return float((away - nearest).square().sum()) / max(size, TINY)

    return evaluate


def _random_inputs(subject: Subject) -> tuple[Any, Any]:
    """Several examples in the place of one."""
    generator = torch.Generator().manual_seed(0)
    most = getattr(getattr(subject.module, "config", None), "vocab_size", None)

    def drawn(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.dim():
            return value
        shape = (RANDOM_INPUTS, *value.shape[1:])
        if value.is_floating_point():
            return torch.randn(shape, generator=generator).to(value)
        high = most or int(value.max()) + 1
        return torch.randint(high, shape, generator=generator).to(value)

    found = torch.utils._pytree.tree_map(drawn, (subject.args, dict(subject.kwargs)))
    return found[0], found[1]
