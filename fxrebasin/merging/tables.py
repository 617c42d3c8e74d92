"""Results in files: CSV, and numbers as JSON has them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path as FilePath
from typing import Any

from ..arguments import check_path, check_text
from ..errors import FileFormatError
from ..files import replacing


def csv_text(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Comma-separated values; numbers with all their digits, None as an empty cell.

    >>> csv_text(("t", "loss"), [(0.5, 0.1), (1.0, None)])
    't,loss\\n0.5,0.1\\n1.0,\\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def finite(value: float | None) -> float | None:
    """A number as JSON has it: nan and the infinities become null."""
    return value if value is not None and math.isfinite(value) else None


def number(value: float | None) -> float:
    """A number as :func:`finite` wrote it: null is nan."""
    return math.nan if value is None else float(value)


def handed_over(text: str, path: str | os.PathLike[str] | None) -> str:
    """Return a text, and write it to a file, which appears complete or not at all.

    Raises:
        InvalidArgumentError: ``path`` names no file.
        OSError: the folder is missing or cannot be written.
    """
    if path is not None:
        check_path(path)
        with replacing(FilePath(path)) as draft:
            draft.write_text(text, encoding="utf-8")
    return text


def read_json(text: str, what: str) -> dict[str, Any]:
    """The object that a JSON text holds.

    Raises:
        InvalidArgumentError: it is no text.
        FileFormatError: it is no JSON, or holds no object.
    """
    check_text(text, "text", f"what {what}.to_json() returned")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise FileFormatError(f"text: expected JSON of a {what}, found none: {error}") from error
    if not isinstance(content, dict):
        raise FileFormatError(
            f"text: expected the JSON of a {what}, found {type(content).__name__}; "
            f"give what {what}.to_json() returned"
        )
    return content
