"""What all threads of a process share is changed by one thread at a time, and then put back.

Tracing patches ``nn.Module``, and running a model as in evaluation changes settings of torch. Under
``exclusive`` that is done by one thread, other threads call what was there before, and all of it is
put back even where ``Ctrl-C`` comes in between.

>>> with exclusive():
...     graph = torch.fx.symbolic_trace(nn.Linear(2, 3))
"""

from __future__ import annotations

import builtins
import functools
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.fx import _symbolic_trace as fx_tracing

_lock = threading.RLock()
_patched: list[Any] = []
"""The patches of the trace that is going on."""


def _forget_lock() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forget_lock)


class _Patcher(fx_tracing._Patcher):
    """Patches for the thread that traces; all others call what was there before."""

    def patch(
        self,
        frame_dict: dict[str, Any],
        name: str,
        new_fn: Callable[..., Any],
        deduplicate: bool = True,
    ) -> None:
        before = frame_dict.get(name) or vars(builtins).get(name)
        known = len(self.patches_made)
        super().patch(frame_dict, name, _for_this_thread(new_fn, before), deduplicate)
        _patched.extend(self.patches_made[known:])

    def patch_method(
        self, cls: type, name: str, new_fn: Callable[..., Any], deduplicate: bool = True
    ) -> None:
        known = len(self.patches_made)
        before = getattr(cls, name)
        super().patch_method(cls, name, _for_this_thread(new_fn, before), deduplicate)
        _patched.extend(self.patches_made[known:])


def _for_this_thread(new: Callable[..., Any], before: Any) -> Callable[..., Any]:
    owner = threading.get_ident()

    @functools.wraps(new)
    def patched(*args: Any, **kwargs: Any) -> Any:
        return (new if threading.get_ident() == owner else before)(*args, **kwargs)

    return patched


class exclusive:  # noqa: N801 - used as a function, like contextlib.suppress
    """Inside, no other thread is in here; afterwards what torch patches and sets is as before."""

    def __enter__(self) -> None:
        self.lock = _lock
        self.lock.acquire()
        try:
            self.before = _Settings()
        except BaseException:
            self.lock.release()
            raise
        fx_tracing._Patcher = _Patcher  # type: ignore[misc]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            try:
                self.before.restore()
            except BaseException:
                self.before.restore()  # an interrupt came while it was at work
                raise
        finally:
            self.lock.release()


class _Settings:
    """What is the same for all threads, and is changed while models are traced and run."""

    def __init__(self) -> None:
        self.call, self.getattr = nn.Module.__call__, nn.Module.__dict__["__getattr__"]
        self.patcher, self.current = fx_tracing._Patcher, fx_tracing.CURRENT_PATCHER
        self.is_tracing = fx_tracing._get_is_fx_tracing()
        self.patches = len(_patched)
        self.fast = torch.backends.mha.get_fastpath_enabled()
        self.dtype = torch.get_default_dtype()
        self.cudnn = torch.backends.cudnn.enabled
        self.mkldnn = torch._C._get_mkldnn_enabled()

    def restore(self) -> None:
        while len(_patched) > self.patches:
            patch = _patched[-1]
            in_scope = isinstance(patch.frame_dict, dict)
            if in_scope and patch.frame_dict.get(patch.fn_name) is patch.new_fn:
                patch.revert()
            del _patched[-1]
        if nn.Module.__call__ is not self.call:
            nn.Module.__call__ = self.call  # type: ignore[method-assign]
        if nn.Module.__dict__["__getattr__"] is not self.getattr:
            nn.Module.__getattr__ = self.getattr  # type: ignore[method-assign]
        fx_tracing._Patcher = self.patcher  # type: ignore[misc]
        fx_tracing.CURRENT_PATCHER = self.current
        fx_tracing._set_is_fx_tracing(self.is_tracing)
        torch.backends.mha.set_fastpath_enabled(self.fast)
        torch.set_default_dtype(self.dtype)
        torch.backends.cudnn.enabled = self.cudnn
        torch._C._set_mkldnn_enabled(self.mkldnn)
