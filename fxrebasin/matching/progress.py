"""What is told of a matching while it runs, on a progress bar and to a callback."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from tqdm.auto import tqdm


@dataclass(frozen=True)
class Step:
    """How far a matching has come."""

    objective: float
    """Of what stopping here would return; it may fall while blocks are first placed."""
    gained: float
    """By how much that is above the objective of B as it is."""
    seconds: float
    """Since the matching began."""


Callback = Callable[[Step], object]
"""Called at every step of a matching; it raises ``StopIteration`` to end it there."""


class Stopped(Exception):  # noqa: N818 - no error
    """A callback asked for the end."""


class Progress:
    """A progress bar, and who else wants to know."""

    def __init__(
        self, title: str | None, callback: Callback | None, *, begin: float, before: float
    ) -> None:
        self._callback, self._begin, self._before = callback, begin, before
        self._bar = tqdm(desc=title, unit="step", disable=None if title else True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    @property
    def is_watched(self) -> bool:
        """Is there a callback?"""
        return self._callback is not None

    def step(self, objective: float) -> None:
        """A step is done. Raises :class:`Stopped` if it is to be the last."""
        self._bar.set_postfix(objective=f"{objective:.6g}", refresh=False)
        self._bar.update()
        if self._callback is not None:
            gained, seconds = objective - self._before, time.perf_counter() - self._begin
            try:
                self._callback(Step(objective, gained, seconds))
            except StopIteration as stop:
                raise Stopped from stop
