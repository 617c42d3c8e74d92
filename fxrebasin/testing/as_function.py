"""A module as a function of its inputs and of what it stores, so that both can be permuted.

>>> layer = nn.Linear(3, 2)
>>> function, stored = as_function(layer)
>>> x = torch.ones(4, 3)
>>> torch.equal(function(x, **stored), layer(x))
True
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from ..layouts.layout import Layout
from ..rules.call import Call, Rule, absent_names


def as_function(module: nn.Module) -> tuple[Callable[..., Any], dict[str, torch.Tensor]]:
    """The function, and the parameters and buffers that it takes as keywords besides the inputs."""
    stored = dict([*module.named_parameters(), *module.named_buffers()])

    def function(*args: Any, **kwargs: Any) -> Any:
        own = {name: kwargs.pop(name) for name in stored}
        return functional_call(module, own, args, kwargs)

    function.__name__ = type(module).__name__
    vars(function)["__signature__"] = inspect.signature(module.forward)
    return function, stored


def rule_of_function(rule: Rule, module: nn.Module, stored: Sequence[str]) -> Rule:
    """The rule of a module for the function that it has become."""

    absent = absent_names(module)

    def with_parameters(call: Call, *args: Any, **kwargs: Any) -> Layout | Sequence[Layout]:
        parameters = {name: kwargs.pop(name).as_parameter() for name in stored}
        return rule(replace(call, parameters=parameters, absent=absent), *args, **kwargs)

    return with_parameters
