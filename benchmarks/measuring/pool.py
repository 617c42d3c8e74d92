"""Processes that work off tasks, and may die or hang at any of them."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Announce = Callable[[str], None]
Work = Callable[[T, Announce], R]

LIFETIME = 1000
"""Tasks after which a process is replaced, so that its memory cannot grow for ever."""


@dataclass(frozen=True)
class Lost(Generic[T]):
    """A task whose process died or hung."""

    task: T
    announced: str
    """What it had last said that it was about to do."""
    reason: str


class _Worker(Generic[T, R]):
    """One process, and the task in its hands."""

    def __init__(self, work: Work[T, R], seconds: float) -> None:
        self.work, self.seconds = work, seconds
        self.task: T | None = None
        self._start()

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.connection, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(self.work, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.done = 0

    def stop(self) -> int | None:
        """End the process, and say how it had ended if it already had."""
        self.process.join(timeout=1)
        code = self.process.exitcode
        self.process.kill()
        self.process.join()
        self.connection.close()
        return code

    def give(self, task: T) -> None:
        if self.done >= LIFETIME:
            self.connection.send(None)
            self.stop()
            self._start()
        self.task, self.announced = task, ""
        self.deadline = time.monotonic() + self.seconds
        self.connection.send(task)

    def take(self) -> R | Lost[T] | None:
        """What came of the task; None while it is still in hand."""
        task = self.task
        assert task is not None
        reason = f"not done after {self.seconds:g} seconds"
        try:
            while self.connection.poll():
                message = self.connection.recv()
                if not isinstance(message, _Announcement):
                    self.task, self.done = None, self.done + 1
                    return message
                self.announced = message.text
            if time.monotonic() < self.deadline:
                return None
            self.stop()
        except (EOFError, ConnectionResetError):
            reason = f"the process died with exit code {self.stop()}"
        lost = Lost(task, self.announced, reason)
        self.task = None
        self._start()
        return lost


@dataclass(frozen=True)
class _Announcement:
    text: str


def _serve(work: Callable[[Any, Announce], Any], connection: Connection[Any, Any]) -> None:
    while (task := connection.recv()) is not None:
        connection.send(work(task, lambda text: connection.send(_Announcement(text))))


def work_off(
    work: Work[T, R], tasks: Iterable[T], *, jobs: int, seconds: float
) -> Iterator[R | Lost[T]]:
    """Do all tasks in processes of their own, ``seconds`` for each, in any order.

    ``work`` is a function of a module; it is given a task (never None) and a function with which
    it may announce, in words, what it is about to do.
    """
    waiting = iter(tasks)
    workers = [_Worker(work, seconds) for _ in range(jobs)]
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
                if (result := worker.take()) is not None:
                    yield result
    finally:
        for worker in workers:
            worker.process.kill()
            worker.stop()
