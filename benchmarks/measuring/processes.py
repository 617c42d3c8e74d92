"""Run tasks in processes of their own, under limits of time and memory, so that models cannot harm
one another; and what limits and measures the process at hand.
"""

from __future__ import annotations

import gc
import multiprocessing
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

T = TypeVar("T")
R = TypeVar("R")

SLOW_TO_IMPORT = ["benchmarks.measuring.models", "fxrebasin", "timm", "torchvision", "transformers"]
"""What every process begins with: all are forked from one that has imported these, once for all."""
LIFETIME = 1000
"""Tasks after which a process is replaced, so that its memory cannot grow for ever."""
PEAK_IS_FORGOTTEN = "5"
"""What the kernel reads as "the peak begins now"; see ``man 5 proc_pid_clear_refs``."""


@dataclass(frozen=True)
class Lost(Generic[T]):
    """A task without a result."""

    task: T
    reason: str
    """The error that was raised, or how the process ended."""


def describe(error: BaseException) -> str:
    """An error in one line.

    >>> describe(KeyError("no such unit"))
    "KeyError: 'no such unit'"
    """
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:200]}"


def run_apart(work: Callable[[T], R], task: T, *, gibibytes: float, seconds: float) -> R | Lost[T]:
    """Do one task in a fresh process, whose memory is released afterwards."""
    (result,) = work_off(work, [task], seconds=seconds, gibibytes=gibibytes)
    return result


def work_off(
    work: Callable[[T], R],
    tasks: Iterable[T],
    *,
    seconds: float,
    jobs: int = 1,
    gibibytes: float | None = None,
) -> Iterator[R | Lost[T]]:
    """Do all tasks in other processes, as many as ``jobs`` at a time; results come in any order.

    ``work`` is a function of a module that others can import (not of a ``__main__``), and no task
    is None. Each has ``seconds`` from when it is
    begun; a process that exceeds them is killed. ``gibibytes`` bound the memory of a process.
    """
    assert getattr(work, "__module__", None) != "__main__", "other processes do not find it"
    waiting = iter(tasks)
    workers: list[_Worker[T, R]] = [_Worker(work, seconds, gibibytes) for _ in range(jobs)]
    try:
        while True:
            for worker in workers:
                if worker.task is None and (task := next(waiting, None)) is not None:
                    worker.give(task)
            busy = [worker for worker in workers if worker.task is not None]
            if not busy:
                return
            soonest = min(worker.deadline for worker in busy)
            wait([w.connection for w in busy], timeout=max(0.0, soonest - time.monotonic()))
            for worker in busy:
                if worker.connection.poll() or time.monotonic() >= worker.deadline:
                    yield worker.take()
    finally:
        for worker in workers:
            worker.stop()


class _Worker(Generic[T, R]):
    """One process, begun when it is first needed, and the task in its hands."""

    def __init__(self, work: Callable[[T], R], seconds: float, gibibytes: float | None) -> None:
        self.work, self.seconds, self.gibibytes = work, seconds, gibibytes
        self.process: Any = None
        self.task: T | None = None

    def give(self, task: T) -> None:
        if self.process is None:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(SLOW_TO_IMPORT)
            self.connection, theirs = context.Pipe()
            arguments = (self.work, theirs, self.gibibytes)
            self.process = context.Process(target=_serve, args=arguments, daemon=True)
            self.process.start()
            theirs.close()
            self.done = 0
        self.task = task
        self.deadline = time.monotonic() + self.seconds
        self.connection.send(task)

    def take(self) -> R | Lost[T]:
        """What came of the task; to be asked when there is an answer or no time is left."""
        task, self.task = self.task, None
        assert task is not None
        if not self.connection.poll():
            self.stop()
            return Lost(task, f"TimeoutError: not done after {self.seconds:g} seconds")
        try:
            result: R | Lost[T] = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(timeout=1)
            code = self.process.exitcode
            self.stop()
            return Lost(task, f"the process died with exit code {code}")
        self.done += 1
        if self.done == LIFETIME:
            self.stop()
        return result

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None


def _serve(
    work: Callable[[Any], Any], connection: Connection[Any, Any], gibibytes: float | None
) -> None:
    if gibibytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (int(gibibytes * 2**30),) * 2)
    while True:
        task = connection.recv()
        try:
            result = work(task)
        except Exception as error:  # any failure is a result here
            result = Lost(task, describe(error))
        connection.send(result)


class TimeLimitError(BaseException):
    """Not an ``Exception``, so that no library takes it for a failure of its own and goes on."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt what runs in the main thread of this process, which goes on.

    A call into C is interrupted only when it returns.

    Raises:
        TimeLimitError: the time is over.
    """

    def interrupt(number: int, frame: object) -> NoReturn:
        raise TimeLimitError(f"not done after {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def peak_memory() -> float:
    """The most memory that this process has held so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def extra_memory(run: Callable[[], object]) -> float:
    """By how many MiB the memory of this process grows at most while something runs (Linux)."""
    gc.collect()  # else garbage that goes meanwhile hides what is new
    Path("/proc/self/clear_refs").write_text(PEAK_IS_FORGOTTEN)
    before = _memory("VmRSS")
    run()
    return (_memory("VmHWM") - before) / 2**10


def _memory(kind: str) -> int:
    """In KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))
