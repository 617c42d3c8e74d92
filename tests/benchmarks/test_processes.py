"""Processes that work off tasks, die, hang or want too much, and the limits of this process."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import Any

import numpy as np
import pytest

from benchmarks.measuring.processes import (
    Lost,
    TimeLimitError,
    extra_memory,
    run_apart,
    time_limit,
    work_off,
)


def test_tasks_are_worked_off_in_other_processes() -> None:
    found = list(work_off(math.sqrt, [1.0, 4.0, 9.0], jobs=2, seconds=60))
    assert sorted(found) == [1, 2, 3]  # type: ignore[type-var]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the number of a process")
def test_a_task_apart_has_a_process_of_its_own() -> None:
    apart = [run_apart(os.path.realpath, "/proc/self", gibibytes=8, seconds=60) for _ in range(2)]
    assert len({*apart, os.path.realpath("/proc/self")}) == 3


def test_a_task_that_raises_is_lost_and_the_others_go_on() -> None:
    results = list(work_off(math.sqrt, [4.0, -1.0, 9.0], seconds=60))
    assert results == [2, Lost(-1.0, "ValueError: math domain error"), 3]


def test_a_task_that_kills_its_process_is_lost_and_the_others_go_on() -> None:
    tasks: list[Any] = [7, 8]
    results = list(work_off(os._exit, tasks, seconds=60))
    assert results == [Lost(n, f"the process died with exit code {n}") for n in tasks]


def test_a_task_that_hangs_is_given_up() -> None:
    results = list(work_off(time.sleep, [600.0, 0.0], seconds=3))
    assert results == [Lost(600.0, "TimeoutError: not done after 3 seconds"), None]


def test_a_task_that_wants_too_much_memory_is_lost() -> None:
    found = run_apart(np.ones, 2**30, gibibytes=4, seconds=60)
    assert isinstance(found, Lost)
    assert "MemoryError: Unable to allocate 8.00 GiB" in found.reason


def test_what_takes_too_long_is_interrupted() -> None:
    with pytest.raises(TimeLimitError, match=r"not done after 0\.05 s"), time_limit(0.05):
        time.sleep(60)


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of a process")
def test_memory_is_the_most_that_was_held_not_what_is_left() -> None:
    assert extra_memory(lambda: np.ones(2**23)) >= 63
    assert extra_memory(lambda: None) < 32
