"""The last front end: the model is run as it is, and no graph is made.

A graph is not needed to find symmetries. What would be a node's name is made of the module that
is running and the op; what would be its source is read from the stack.
"""

from __future__ import annotations

import linecache
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import FxrebasinError, InvalidInputError
from ..rules.registry import RuleBook
from ..tracing.eager import EagerModule
from ..tracing.symbolic import TORCH
from .dispatch import LayoutMode
from .recording import Recording

HERE = Path(__file__).parent


def run_eagerly(module: EagerModule, recording: Recording, args: Any, kwargs: Any) -> Any:
    """Run a model on its example inputs under the dispatch mode of a recording, a record per op.

    Raises:
        InvalidInputError: the model does not run on the example inputs.
    """
    mode, watcher = recording.mode, _Calls(recording)
    with _tell_modules(module.model, watcher), _use_rules(module.model, mode, mode.rules), mode:
        mode.watcher = watcher
        try:
            return module.model(*args, **kwargs)
        except FxrebasinError:
            raise
        except Exception as error:
            raise InvalidInputError(
                f"the model does not run on the example inputs: module "
                f"{watcher.running or type(module.model).__name__!r} failed: "
                f"{type(error).__name__}: {error}"
            ) from error
        finally:
            mode.watcher = None


class _Calls:
    """Names every op after the module that runs it, and records what it imposes."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.modules: list[str] = []
        self.counts: Counter[str] = Counter()

    @property
    def running(self) -> str:
        return self.modules[-1] if self.modules else ""

    def before(self, op: str) -> None:
        base = f"{self.running}.{op.removeprefix('aten.').partition('.')[0]}".lstrip(".")
        self.counts[base] += 1
        site = base if self.counts[base] == 1 else f"{base}#{self.counts[base]}"
        self.recording.facts.sources[site] = _line_of_user()
        self.record = self.recording.record(site)
        self.record.begin()

    def after(self, operands: list[torch.Tensor], results: list[torch.Tensor]) -> None:
        for tensor in operands:
            self.record.named_operand(tensor)
        self.record.result(self.record.site, results)
        self.record.end()


def _line_of_user() -> str:
    """The innermost line on the stack that is neither torch's nor ours."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        path = Path(frame.f_code.co_filename)
        if TORCH not in path.parents and HERE not in path.parents:
            break
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    return f"{file}:{line}: {linecache.getline(file, line).strip()}"


@contextmanager
def _tell_modules(model: nn.Module, watcher: _Calls) -> Iterator[None]:
    """Tell the watcher which module runs."""
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
            continue

        def enter(*_: Any, name: str = name) -> None:
            watcher.modules.append(name)

        def leave(*_: Any) -> None:
            watcher.modules.pop()

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _use_rules(model: nn.Module, mode: LayoutMode, rules: RuleBook) -> Iterator[None]:
    """While the model runs, what has a rule of its own is called as a leaf."""
    owners: list[tuple[dict[str, Any], str, Any]] = []
    for name, module in model.named_modules():
        rule = rules.of_module(module)
        if rule is not None:
            owners.append((vars(module), "forward", vars(module).get("forward")))
            called = partial(mode.leaf, name, rule, module.forward, module=module)
            vars(module)["forward"] = _as_function(called)
    functions = {id(f): f for f in rules.functions}
    for names in {id(g): g for g in map(_globals, model.modules())}.values():
        for name, value in list(names.items()):
            if id(value) in functions:
                rule = rules.of_function(value)
                assert rule is not None
                owners.append((names, name, value))
                names[name] = _as_function(partial(mode.leaf, name, rule, value))
    try:
        with _MethodRules(mode) if rules.functions or rules.methods else nullcontext():
            yield
    finally:
        for names, name, value in reversed(owners):
            if value is None:
                del names[name]
            else:
                names[name] = value


def _globals(module: nn.Module) -> dict[str, Any]:
    if isinstance(module, torch.jit.ScriptModule):
        return {}
    found: dict[str, Any] = getattr(type(module).forward, "__globals__", {})
    return found


def _as_function(leaf: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: leaf(args, kwargs)


class _MethodRules(TorchFunctionMode):
    """Calls methods of tensors, and functions of torch, that have a rule as leaves."""

    def __init__(self, mode: LayoutMode) -> None:
        super().__init__()
        self.mode = mode

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        rule = self.mode.rules.of_function(func) or self.mode.rules.of_method(name)
        if rule is None:
            return func(*args, **(kwargs or {}))
        return self.mode.leaf(name, rule, func, args, kwargs or {})
