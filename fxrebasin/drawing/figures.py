"""Figures of matplotlib, which is optional: made without pyplot, and written to files."""

from __future__ import annotations

import os
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from ..arguments import check_path
from ..errors import InvalidArgumentError
from ..files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""The same picture is the same file, whenever it is drawn."""


def figure_type() -> type[Figure]:
    """The class of figures that pyplot knows nothing of.

    Raises:
        ModuleNotFoundError: matplotlib is missing, and how to get it.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "drawing needs matplotlib: pip install 'fxrebasin[plot]'", name="matplotlib"
        ) from error
    return Figure


def check_picture_path(path: str | os.PathLike[str]) -> None:
    """Refuse a file name that no picture can be written to, before there is a picture.

    Raises:
        InvalidArgumentError: it is no name, or matplotlib cannot write files with this ending.
        ModuleNotFoundError: matplotlib is missing.
    """
    check_path(path)
    kind = FilePath(path).suffix.removeprefix(".").lower()
    known = figure_type()().canvas.get_supported_filetypes()
    if kind not in known:
        raise InvalidArgumentError(
            f"cannot write a picture to {os.fspath(path)!r}: the ending must be one of "
            f"{sorted(known)}"
        )


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file that appears complete or not at all.

    Args:
        figure: what :func:`fxrebasin.drawing.curves.draw_rows` returned.
        path: where to; the ending chooses the format.

    Raises:
        InvalidArgumentError: matplotlib cannot write files with this ending.
        OSError: the folder is missing or cannot be written.
    """
    check_picture_path(path)
    target = FilePath(path)
    kind = target.suffix.removeprefix(".").lower()
    with replacing(target) as draft:
        figure.savefig(draft, format=kind, metadata=_UNDATED.get(kind))
