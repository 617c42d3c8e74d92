"""MODEL, as the command line names it: a module, and example inputs for it."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..arguments import check_device
from ..checkpoints.opening import PICKLED
from ..errors import ArchitectureMismatchError, FileFormatError, InvalidArgumentError
from .options import Example

IMAGE = (1, 3, 224, 224)
TOKENS = 8
WEIGHTS = (".safetensors", ".index.json", *PICKLED)
"""How names of files with weights end."""
DTYPES = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Subject:
    """A model, and what it is run on."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    folder: Path | None = None
    """Of transformers, where it is from there."""


def subject_of(spec: str, example: Example) -> Subject:
    """Make the model that a text names.

    Raises:
        InvalidArgumentError: the text names none, or an option makes no sense.
        FileFormatError, OSError: a folder of transformers cannot be read.
        ModuleNotFoundError: a package is missing.
    """
    check_device(example.device)
    place, colon, name = spec.partition(":")
    if not colon or not name:
        raise InvalidArgumentError(
            f"MODEL: expected torchvision:NAME, timm:NAME, hf:DIR or package.module:factory, found "
            f"{spec!r}"
        )
    makers: Mapping[str, Callable[[str, Example], Subject]] = {
        "torchvision": _of_torchvision,
        "timm": _of_timm,
        "hf": _of_transformers,
    }
    if place in makers:
        try:
            made = makers[place](name, example)
        except TypeError as error:  # of the constructor, which does not know an option
            raise InvalidArgumentError(f"MODEL: {spec!r} cannot be made: {error}") from error
    else:
        made = _of_factory(place, name)
    if example.input:
        made = replace(made, args=tuple(map(_random, example.input)), kwargs={})
    module = made.module.to(device=example.device, dtype=dtype_of(example)).eval()
    return replace(
        made, module=module, args=moved_to(made.args, module), kwargs=moved_to(made.kwargs, module)
    )


def dtype_of(example: Example) -> torch.dtype | None:
    """The type that ``--dtype`` names.

    Raises:
        InvalidArgumentError: it names none.
    """
    if example.dtype is None:
        return None
    if example.dtype not in DTYPES:
        raise InvalidArgumentError(
            f"--dtype: expected one of {', '.join(DTYPES)}, found {example.dtype!r}"
        )
    found: torch.dtype = getattr(torch, example.dtype)
    return found


def is_folder_of_transformers(path: str) -> bool:
    """Is there a configuration beside the weights?"""
    return os.path.isfile(os.path.join(path, "config.json"))


def pretrained(kind: Any, folder: Path, dtype: torch.dtype | None) -> nn.Module:
    """The model in a folder of transformers, of the given class.

    Raises:
        ArchitectureMismatchError: the folder lacks weights of the model, or has others.
    """
    module, info = kind.from_pretrained(
        folder, local_files_only=True, dtype=dtype or "auto", output_loading_info=True
    )
    for what in ("missing_keys", "mismatched_keys", "unexpected_keys", "error_msgs"):
        if info[what]:
            first = ", ".join(map(str, sorted(map(str, info[what]))[:3]))
            raise ArchitectureMismatchError(
                f"{str(folder)!r} does not fit {kind.__name__}: {what.replace('_', ' ')}: {first}"
            )
    loaded: nn.Module = module.eval()
    return loaded


def imported(place: str, name: str) -> Callable[..., Any]:
    """A function of a module, which may lie in the working directory.

    Raises:
        ModuleNotFoundError, InvalidArgumentError: there is none.
    """
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(place), name, None)
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise InvalidArgumentError(f"{place!r} has no function {name!r}")
    factory: Callable[..., Any] = found
    return factory


def _of_torchvision(name: str, example: Example) -> Subject:
    from torchvision import models

    name, options = _split(name)
    if name not in models.list_models():
        raise InvalidArgumentError(f"torchvision has no model {name!r}")
    return Subject(models.get_model(name, weights=None, **options), (torch.randn(IMAGE),), {})


def _of_timm(name: str, example: Example) -> Subject:
    import timm

    name, options = _split(name)
    if not timm.is_model(name):
        raise InvalidArgumentError(f"timm has no model {name!r}")
    module: Any = timm.create_model(name, pretrained=False, **options)
    size = module.pretrained_cfg.get("input_size", IMAGE[1:])
    return Subject(module, (torch.randn(1, *size),), {})


def _of_transformers(name: str, example: Example) -> Subject:
    import transformers

    folder = Path(name)
    if not is_folder_of_transformers(name):
        raise FileFormatError(f"{name!r} is no folder of transformers: it has no config.json")
    _silence_transformers()
    config: Any = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    names = config.architectures or []
    kind: Any = getattr(transformers, names[0], None) if names else None
    if kind is None:
        raise FileFormatError(
            f"{str(folder / 'config.json')!r} names no architecture of transformers, found "
            f"{names}; models with code of their own are given as package.module:factory"
        )
    has_weights = any(file.name.endswith(WEIGHTS) for file in folder.iterdir())
    dtype = dtype_of(example)
    module = pretrained(kind, folder, dtype) if has_weights else kind(config)
    return Subject(module, (), _inputs_of(module, config, example), folder)


def _inputs_of(module: Any, config: Any, example: Example) -> dict[str, Any]:
    parameters = inspect.signature(module.forward).parameters
    kwargs: dict[str, Any] = {"use_cache": False} if "use_cache" in parameters else {}
    if module.main_input_name == "pixel_values":
        size = config.image_size
        height, width = size if isinstance(size, Sequence) else (size, size)
        return {"pixel_values": torch.randn(1, config.num_channels, height, width)}
    if module.main_input_name != "input_ids" and not example.input:
        raise InvalidArgumentError(
            f"no example inputs are known for {type(module).__name__}, which takes "
            f"{module.main_input_name!r}; give --input, or package.module:factory"
        )
    ids = torch.arange(example.tokens or TOKENS)[None] % config.vocab_size
    kwargs["input_ids"] = ids
    if getattr(config, "is_encoder_decoder", False):
        kwargs["decoder_input_ids"] = ids
    return kwargs


def _of_factory(place: str, name: str) -> Subject:
    made = imported(place, name)()
    module, args, kwargs = (*made, {})[:3] if isinstance(made, tuple) else (made, (), {})
    is_known = isinstance(module, nn.Module) and isinstance(args, Sequence)
    if not is_known or not isinstance(kwargs, Mapping):
        raise InvalidArgumentError(
            f"{place}:{name}: expected it to return a module, or a module, a tuple of example "
            f"inputs and perhaps a dict of them, found {type(made).__name__}"
        )
    return Subject(module, tuple(args), kwargs)


def _split(text: str) -> tuple[str, dict[str, Any]]:
    """A name and the options behind it, as in ``resnet18,num_classes=10``."""
    name, *options = text.split(",")
    found = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise InvalidArgumentError(f"MODEL: expected options as key=value, found {option!r}")
        try:
            found[key] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            found[key] = value
    return name, found


def _random(shape: str) -> torch.Tensor:
    try:
        sizes = [int(size) for size in shape.split(",")]
        return torch.randn(sizes)
    except (ValueError, RuntimeError) as error:
        raise InvalidArgumentError(
            f"--input: expected a shape as 1,3,224,224, found {shape!r}"
        ) from error


def moved_to(inputs: Any, module: nn.Module) -> Any:
    """Tensors where the model is, and of its type."""
    first = next(module.parameters(), torch.zeros(0))

    def moved(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(first.device, first.dtype if value.is_floating_point() else None)

    return torch.utils._pytree.tree_map(moved, inputs)


def _silence_transformers() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
