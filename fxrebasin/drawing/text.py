"""Fit the names and sizes of blocks into their boxes.

A name that is too long for a line is broken at its dots, then set a little smaller, and only then
cut at the front, where it says least.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

_SMALLER = (1.0, 0.9, 0.8)
_LEADING = 1.2


@dataclass(frozen=True)
class Text:
    """Lines of text, one below the other, the last in bold if there are several."""

    lines: tuple[str, ...]
    font: float


def fitted(name: str, size: str, width: float, height: float, font: float) -> Text:
    """A name above a size, or before it on the same line, as much as fits into the inches.

    >>> fitted("layer1.0.conv1", "64", width=2, height=0.5, font=8)
    Text(lines=('layer1.0.conv1', '64'), font=8.0)
    >>> fitted("layer1.0.conv1", "64", width=2, height=0.2, font=8)
    Text(lines=('layer1.0.conv1: 64',), font=8.0)
    >>> fitted("layer1.0.conv1", "64", width=0.5, height=0.15, font=8)
    Text(lines=('…onv1: 64',), font=6.4)
    """
    for factor in _SMALLER:
        text = _set(name, size, width, height, font * factor, cut=False)
        if text is not None:
            return text
    return _set(name, size, width, height, font * _SMALLER[-1], cut=True) or Text((), font)


def shortened(text: str, width: float, font: float) -> str:
    """The end of a text, as much of it as fits; nothing, if that is next to nothing."""
    if text_width(text, font) <= width:
        return text
    for k in range(1, len(text) - 1):
        if text_width(f"…{text[k:]}", font) <= width:
            return f"…{text[k:]}"
    return ""


def line_height(font: float) -> float:
    """In inches."""
    return font * _LEADING / 72


def _set(name: str, size: str, width: float, height: float, font: float, cut: bool) -> Text | None:
    rows = int((height - 0.02) / line_height(font))
    if rows < 1 or text_width(size, font, bold=rows > 1) > width:
        return None

    def fits(part: str) -> bool:
        return text_width(part, font) <= width

    if rows > 1:
        lines = _broken(name, rows - 1, fits)
        if lines is None and cut:
            short = shortened(name, width, font)
            lines = [short] if short else []
        return None if lines is None else Text((*lines, size), font)
    if name and fits(f"{name}: {size}"):
        return Text((f"{name}: {size}",), font)
    if not cut and name:
        return None
    short = shortened(name, width - text_width(f": {size}", font), font)
    return Text((f"{short}: {size}" if short else size,), font)


def _broken(name: str, rows: int, fits: Callable[[str], bool]) -> list[str] | None:
    """Break a name after dots and arrows."""
    lines = [""]
    for part in re.split(r"(?<=\.)|(?<=, )|(?<= → )", name):
        if fits((lines[-1] + part).strip()):
            lines[-1] += part
        elif fits(part.strip()):
            lines.append(part)
        else:
            return None
    lines = [line.strip() for line in lines if line]
    return lines if len(lines) <= rows else None


@cache
def text_width(text: str, font: float, *, bold: bool = False) -> float:
    """How wide a text is, in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    properties = FontProperties(size=font, weight="bold" if bold else "normal")
    width, _, _ = TextToPath().get_text_width_height_descent(text, properties, ismath=False)
    return float(width) / 72
