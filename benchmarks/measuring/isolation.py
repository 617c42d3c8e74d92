"""Run a function in a process of its own, under limits, so that models cannot harm one another."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

SLOW_TO_IMPORT = [
    "benchmarks.coverage.sections",
    "fxrebasin",
    "timm",
    "torchvision",
    "transformers",
]

A = TypeVar("A")
R = TypeVar("R")


def run_apart(function: Callable[[A], R], argument: A, *, gibibytes: float, seconds: int) -> R:
    """Call a function in a fresh process; its memory is released afterwards, whatever happens.

    The process is forked from one that has imported what takes long to import, once for all.

    Raises:
        Exception: whatever the function raises; ``MemoryError`` or ``RuntimeError`` where it
            wants more memory.
        TimeoutError: it was not done in time.
        BrokenProcessPool: the process was killed by something else.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(SLOW_TO_IMPORT)
    begin = time.monotonic()
    with ProcessPoolExecutor(1, context, _limit, (gibibytes, seconds)) as pool:
        try:
            return pool.submit(function, argument).result()
        except BrokenProcessPool as error:
            if time.monotonic() - begin >= seconds:
                raise TimeoutError(f"not done after {seconds} seconds") from error
            raise


def peak_memory() -> float:
    """The most memory that this process has held so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _limit(gibibytes: float, seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (int(gibibytes * 2**30),) * 2)
    signal.alarm(seconds)
