"""What the caller's thread has switched on is switched off while the library works.

A model is analysed as it is when nothing is around it: in ``torch.inference_mode()`` no op would be
seen, under ``torch.autocast`` weights would be replaced by copies, on a default device of ``meta``
numbers would have no values. So everything that is called from outside begins with ``neutral``:

>>> import torch
>>> with torch.inference_mode(), torch.device("meta"), neutral():
...     print(torch.is_inference_mode_enabled(), torch.zeros(1).device)
False cpu

All of this belongs to one thread; ``exclusive.py`` has what all threads share.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import torch
from torch._C import _functorch, _len_torch_dispatch_stack, _len_torch_function_stack
from torch._functorch import pyfunctorch
from torch.autograd import forward_ad
from torch.overrides import _pop_mode, _push_mode
from torch.utils import _python_dispatch
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import TorchDispatchMode

_default_device: ContextVar[torch.device | None] = ContextVar("_default_device", default=None)


class Observer(TorchDispatchMode):
    """A mode of our own that only looks on, and stays at work inside ``neutral``."""

    supports_higher_order_operators = True


@contextmanager
def neutral() -> Iterator[None]:
    """Inside, nothing that the caller has switched on is at work; afterwards it is again.

    That is: inference mode, autocast and its cache, default devices, modes of dispatch such as
    ``FakeTensorMode``, and transforms of ``torch.func``.
    """
    with ExitStack() as stack:
        stack.enter_context(pyfunctorch.temporarily_clear_interpreter_stack())
        stack.enter_context(_without_function_modes())
        stack.enter_context(_without_dispatch_modes())
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        stack.enter_context(_without_autocast())
        yield


@contextmanager
def _without_function_modes() -> Iterator[None]:
    modes = [_pop_mode() for _ in range(_len_torch_function_stack())]
    devices = [mode.device for mode in modes if isinstance(mode, DeviceContext)]
    token = _default_device.set(devices[-1] if devices else _default_device.get())
    try:
        yield
    finally:
        _default_device.reset(token)
        for mode in reversed(modes):
            _push_mode(mode)


@contextmanager
def _without_dispatch_modes() -> Iterator[None]:
    """Only those of this thread: torch keeps some, of an export that is going on, for all."""
    count = _len_torch_dispatch_stack()
    modes = [_python_dispatch._pop_mode() for _ in range(count)]
    observers = [mode for mode in reversed(modes) if isinstance(mode, Observer)]
    for mode in observers:
        _python_dispatch._push_mode(mode)
    try:
        yield
    finally:
        for _ in observers:
            _python_dispatch._pop_mode()
        for mode in reversed(modes):
            _python_dispatch._push_mode(mode)


@contextmanager
def _without_autocast() -> Iterator[None]:
    types = [t for t in ("cpu", "cuda", "xpu", "mps") if torch.is_autocast_enabled(t)]
    cache = torch.is_autocast_cache_enabled()
    try:
        for device_type in types:
            torch.set_autocast_enabled(device_type, False)
        torch.set_autocast_cache_enabled(cache and not types)
        yield
    finally:
        torch.set_autocast_cache_enabled(cache)
        for device_type in types:
            torch.set_autocast_enabled(device_type, True)


@contextmanager
def default_device_for(model: torch.nn.Module) -> Iterator[None]:
    """Models may rely on the caller's default device, where that is the one they are on."""
    device = _default_device.get()
    if device is None or device.type not in {p.device.type for p in model.parameters()}:
        yield
        return
    with DeviceContext(device):
        yield


@contextmanager
def unwinding() -> Iterator[None]:
    """Levels of ``torch.func`` that are opened inside are closed, whatever happens.

    A graph that was exported from ``torch.vmap`` opens one; where it fails before it closes it, no
    other model would run in this process.
    """
    depth, dual = _depth(), forward_ad._current_level
    try:
        yield
    finally:
        while forward_ad._current_level > dual:
            forward_ad.exit_dual_level()
        while _depth() > depth:
            _functorch.pop_dynamic_layer_stack()


def _depth() -> int:
    return len(_functorch.get_interpreter_stack() or ())
