"""State dicts in files of ``torch.save``, of which only tensors and plain containers are read."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FileFormatError
from .form import Level, level_of

NESTED = ("state_dict", "model_state_dict", "model")
"""Under which keys trainers keep the state dict of the model."""

Read = Callable[[], Tensor]


def of_pickle(path: Path, key: str | None) -> tuple[dict[str, Read], tuple[Level, ...]]:
    """The state dict in a file of ``torch.save``, and the mappings that it is in.

    Raises:
        FileFormatError: there is none, or more than tensors and plain containers.
        OSError: the file cannot be read.
    """
    try:
        state, around = _nested(_unpickled(path), path, key)
    except RecursionError as error:
        raise FileFormatError(
            f"{str(path)!r} holds a mapping that contains itself, or thousands inside each other; "
            "expected a state dict"
        ) from error
    if {"state", "param_groups"} <= state.keys():
        raise FileFormatError(
            f"{str(path)!r} holds the state of an optimizer; expected that of a model"
        )

    def reader(value: Any) -> Read:
        return lambda: value

    odd = next((k for k in state if not isinstance(k, str)), None)
    if odd is not None:
        raise FileFormatError(f"{str(path)!r} is no state dict: it has the key {odd!r}")
    return {name: reader(value) for name, value in state.items()}, around


def _unpickled(path: Path) -> Any:
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        try:
            return torch.load(path, mmap=True, **options)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, **options)  # as torch before 1.6 has written it
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise FileFormatError(
            f"{str(path)!r} holds more than tensors and plain containers, and reading that could "
            "run code; load it where you trust it, and save model.state_dict() alone. "
            f"{str(error).splitlines()[0][:200]}"
        ) from error
    except Exception as error:
        text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise FileFormatError(
            f"{str(path)!r} is no file of torch.save: {text}; download or write it again"
        ) from error


def _nested(found: Any, path: Path, key: str | None) -> tuple[Mapping[Any, Any], tuple[Level, ...]]:
    """The state dict in what a file holds, and where it is."""
    if not isinstance(found, Mapping):
        raise FileFormatError(
            f"{str(path)!r} holds {type(found).__name__}, expected a state dict; save "
            "model.state_dict()"
        )
    if key is not None:
        if not isinstance(found.get(key), Mapping):
            raise FileFormatError(
                f"{str(path)!r} has no state dict under {key!r}; it has the keys "
                f"{', '.join(map(repr, list(found)[:8]))}"
            )
        return found[key], (level_of(found, key),)
    if any(isinstance(value, Tensor) for value in found.values()):
        return found, ()
    inner = [name for name in NESTED if isinstance(found.get(name), Mapping)]
    if len(inner) != 1:
        has = f"several, {', '.join(map(repr, inner))}" if inner else "none"
        raise FileFormatError(
            f"{str(path)!r}: expected tensors by name, or one state dict under "
            f"{', '.join(map(repr, NESTED))}, found {has} among the keys "
            f"{', '.join(map(repr, list(found)[:8]))}; give key="
        )
    state, around = _nested(found[inner[0]], path, None)
    return state, (level_of(found, inner[0]), *around)
