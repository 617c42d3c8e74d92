"""Run a model as in training, but for what training makes random."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

DROPOUTS = frozenset(
    (
        functional.alpha_dropout,
        functional.dropout,
        functional.dropout1d,
        functional.dropout2d,
        functional.dropout3d,
        functional.feature_alpha_dropout,
        torch.dropout,
    )
)


@contextmanager
def as_in_training(model: nn.Module) -> Iterator[None]:
    """Have modules of the user's own take the path of training, for what they use only there.

    Those of torch stay as in evaluation, and nothing is dropped. Only flags are set: whoever has
    set them to eval gives them their values back.
    """
    for module in model.modules():
        module.training = not type(module).__module__.startswith("torch.nn")
    with _WithoutDropout():
        yield


class _WithoutDropout(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DROPOUTS:
            return args[0] if args else (kwargs or {})["input"]
        return func(*args, **(kwargs or {}))
