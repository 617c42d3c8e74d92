"""How long a run may take, and how much memory it takes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

PEAK_IS_FORGOTTEN = "5"
"""What the kernel reads as "the peak begins now"; see ``man 5 proc_pid_clear_refs``."""


class TimeLimitError(BaseException):
    """Not an ``Exception``, so that no library takes it for a failure of its own and goes on."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt what runs in the main thread; an alarm that was set before goes off afterwards.

    A call into C is interrupted only when it returns.

    Raises:
        TimeLimitError: the time is over.
    """

    def interrupt(number: int, frame: object) -> NoReturn:
        raise TimeLimitError(f"not done after {seconds:g} s")

    start = time.monotonic()
    handler = signal.signal(signal.SIGALRM, interrupt)
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        left = max(outer - (time.monotonic() - start), 1e-3) if outer else 0.0
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, left)


def extra_memory(run: Callable[[], object]) -> float:
    """By how many MiB the memory of this process grows at most while something runs (Linux)."""
    Path("/proc/self/clear_refs").write_text(PEAK_IS_FORGOTTEN)
    before = _memory("VmRSS")
    run()
    return (_memory("VmHWM") - before) / 2**10


def _memory(kind: str) -> int:
    """In KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))
