"""The tensors among what a model returns: in tuples, dicts, dataclasses and named outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_leaves


def output_tensors(value: Any) -> list[torch.Tensor]:
    """The tensors of a nested output, in order.

    Objects that are neither containers nor dataclasses, such as a cache that generation carries
    from step to step, belong to the model and are not looked into.
    """
    return list(_tensors(value))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))
    else:
        for leaf in tree_leaves(value):
            if isinstance(leaf, torch.Tensor):
                yield leaf
