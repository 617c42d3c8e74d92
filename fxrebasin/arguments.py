"""What callers give, checked at the edge: each error names the argument and says what to give.

The functions here know kinds of values and nothing of models; what models, state dicts and groups
have to be is checked beside them, with these.

>>> check_whole(2.5, "max_sweeps", least=0)
Traceback (most recent call last):
...
fxrebasin.errors.InvalidArgumentError: max_sweeps: expected a whole number, at least 0, found 2.5; \
give an int
"""

from __future__ import annotations

import inspect
import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

import numpy as np
import torch

from .errors import InvalidArgumentError

MOST_SHOWN = 60
"""Characters of a value that an error repeats."""


def refuse(name: str, expected: str, given: object, advice: str = "") -> NoReturn:
    """Raise the error of an argument.

    Raises:
        InvalidArgumentError: always.
    """
    advice = f"; {advice}" if advice else ""
    raise InvalidArgumentError(f"{name}: expected {expected}, found {spelled(given)}{advice}")


def spelled(given: object) -> str:
    """A value as an error calls it.

    >>> spelled(None), spelled("60"), spelled(torch.zeros(2, 3)), spelled([1, 2])
    ('None', "'60'", 'a Tensor of shape (2, 3)', 'a list of 2')
    """
    if isinstance(given, torch.Tensor):
        layout = "" if given.layout == torch.strided else f" and layout {given.layout}"
        return f"a {type(given).__name__} of shape {tuple(given.shape)}{layout}"
    if isinstance(given, np.ndarray):
        return f"an array of shape {given.shape}"
    if inspect.isclass(given):
        return f"the class {given.__name__}"
    kind = type(given).__name__
    named = f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"
    if isinstance(given, (list, tuple, set, dict)):
        return f"{named} of {len(given)}"
    if given is None or isinstance(given, (str, bytes, numbers.Number)):
        text = repr(given)
        return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
    return named


def check_kind(
    given: object, kinds: type | tuple[type, ...], name: str, expected: str, advice: str = ""
) -> None:
    """Refuse what is of no such type."""
    if not isinstance(given, kinds):
        refuse(name, expected, given, advice)


def check_whole(given: object, name: str, *, least: int | None = None) -> None:
    """Refuse what is no whole number, or one that is too small. True and False are none."""
    is_whole = isinstance(given, numbers.Integral) and not isinstance(given, bool)
    bound = "" if least is None else f", at least {least}"
    if not is_whole:
        refuse(name, f"a whole number{bound}", given, "give an int")
    if least is not None and int(given) < least:  # type: ignore[call-overload]
        refuse(name, f"a whole number{bound}", given)


def check_real(given: object, name: str) -> None:
    """Refuse what is no real number; True and False are none."""
    if not isinstance(given, numbers.Real) or isinstance(given, bool):
        refuse(name, "a number", given, "give a float")


def check_flag(given: object, name: str) -> None:
    """Refuse what is neither True nor False."""
    if not (isinstance(given, bool) or type(given).__name__ in ("bool_", "bool")):
        refuse(name, "True or False", given)


def check_function(given: object, name: str, example: str) -> None:
    """Refuse what is no function, and what can be called as if it were one: models, classes."""
    is_model = isinstance(given, (torch.nn.Module, torch.export.ExportedProgram))
    if not callable(given) or is_model or inspect.isclass(given):
        refuse(name, "a function", given, f"give {example}")


def check_path(given: object, name: str = "path") -> None:
    """Refuse what names no file."""
    if not isinstance(given, (str, os.PathLike)) or not os.fspath(given):
        refuse(name, "the name of a file, as a str or a Path", given)


def check_text(given: object, name: str, expected: str) -> None:
    """Refuse what is no text."""
    if not isinstance(given, str):
        refuse(name, expected, given)


def check_device(given: object, name: str = "device") -> None:
    """Refuse what torch knows no device by, and devices that hold no values."""
    expected = "a device, as 'cpu' or 'cuda'"
    if given is None:
        return
    if not isinstance(given, (str, torch.device)):
        refuse(name, expected, given)
    try:
        device = torch.device(given)
        torch.empty(0, device=device)
    except (AssertionError, ImportError, NotImplementedError, RuntimeError) as error:
        refuse(name, f"{expected}, that torch has here", str(given), str(error).split("\n")[0])
    if device.type == "meta":
        refuse(name, f"{expected}, that holds values", str(given))


def check_items(
    given: object,
    kinds: type | tuple[type, ...],
    name: str,
    expected: str,
    advice: str = "",
) -> None:
    """Refuse what is no list or tuple, or has an item of another type."""
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Sequence):
        refuse(name, f"a list of {expected}", given, advice)
    for k, item in enumerate(given):
        if not isinstance(item, kinds):
            refuse(f"{name}[{k}]", expected, item, advice)


def check_choices(given: object, known: Iterable[str], name: str) -> None:
    """Refuse what is no list or tuple of names that are known."""
    names = list(known)
    listed = ", ".join(map(repr, names))
    if isinstance(given, str):
        instead = given if given in names else names[0]
        refuse(name, f"a list of names among {listed}", given, f"give [{instead!r}]")
    if not isinstance(given, Sequence):
        refuse(name, f"a list of names among {listed}", given)
    for item in given:
        if item not in names:
            refuse(name, f"names among {listed}", item)


def check_shares(weights: object, count: int, name: str = "weights") -> tuple[float, ...]:
    """Weights that sum up to 1.

    >>> check_shares(None, 4), check_shares([3, 1], 2)
    ((0.25, 0.25, 0.25, 0.25), (0.75, 0.25))

    Raises:
        InvalidArgumentError: they are not as many finite numbers from 0 upwards, or all are 0.
    """
    if weights is None:
        return (1 / count,) * count
    expected = f"a list of {count} finite numbers from 0 upwards, one for each model, or None"
    advice = "a model counts as much as its weight, whatever they sum up to"
    if isinstance(weights, (str, bytes, Mapping)) or not isinstance(weights, Sequence):
        refuse(name, expected, weights, advice)
    if len(weights) != count:
        refuse(name, expected, weights, advice)
    for k, weight in enumerate(weights):
        is_number = isinstance(weight, numbers.Real) and not isinstance(weight, bool)
        if not is_number or not 0 <= weight < math.inf:
            refuse(f"{name}[{k}]", "a finite number from 0 upwards", weight)
    total = math.fsum(weights)
    if not 0 < total < math.inf:
        refuse(name, "at least one above 0, and a finite sum", weights)
    return tuple(float(weight) / total for weight in weights)
