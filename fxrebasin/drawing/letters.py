"""What models are called in tables and pictures."""

from __future__ import annotations

from string import ascii_uppercase


def letter(number: int) -> str:
    """The name of a model in a row of them: A, B, ... Z, then 27, 28, ...

    >>> [letter(k) for k in (0, 1, 25, 26)]
    ['A', 'B', 'Z', '27']
    """
    return ascii_uppercase[number] if number < len(ascii_uppercase) else str(number + 1)
