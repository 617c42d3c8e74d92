"""Where in the user's own code a node comes from."""

from __future__ import annotations

from fxrebasin.propagation.recording import source_line
from fxrebasin.tracing.symbolic import TORCH

_INSIDE = f'  File "{TORCH / "_ops.py"}", line 9, in __call__\n    return self._op()'


def test_the_innermost_frame_that_is_the_users() -> None:
    trace = f'  File "net.py", line 3, in forward\n    return norm(x)\n{_INSIDE}'
    assert source_line(trace) == "net.py:3: return norm(x)"
    assert source_line(_INSIDE) == ""


def test_a_frame_without_text_is_not_given_that_of_the_next() -> None:
    frame = '  File "<stdin>", line 3, in forward'
    assert source_line(f"{frame}\n{_INSIDE}") == source_line(frame) == "<stdin>:3"
