"""What every benchmark needs for its options and its table: where, how and when it was measured."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torchvision

from fxrebasin.files import replacing

ROOT = Path(__file__).parent.parent.parent


def parser_of(benchmark: str, description: str | None) -> argparse.ArgumentParser:
    """A parser of options, which shows the docstring of the benchmark as its help."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{benchmark}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def commit() -> str:
    """The commit that is checked out, marked if any file but the tables differs from it."""

    def git(*args: str) -> str:
        command = ["git", "--no-optional-locks", *args]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()

    found = git("rev-parse", "--short", "HEAD") or "unknown"
    changed = git("status", "--porcelain", "--", ".", ":!benchmarks/**/*.md")
    return f"{found} (dirty)" if changed else found


def machine() -> str:
    """Processor, cores and the versions that matter, in one line."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [r for r in cpuinfo.read_text().splitlines() if r.startswith("model name")]
        processor = named[0].partition(":")[2].strip() if named else processor
    return (
        f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    )


def provenance(commits: Iterable[str], threads: Iterable[int]) -> str:
    """The paragraph above a table: which code was measured, where, with what, and when."""
    used = " and ".join(str(n) for n in sorted(set(threads)))
    today = datetime.date.today().isoformat()
    return (
        f"Measured at commit {' and '.join(sorted(set(commits)))} on {machine()}, "
        f"with {used} thread{'' if used == '1' else 's'}; written on {today}."
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned in the source too; the first one is left-aligned.

    >>> print(markdown_table(("model", "n"), [("resnet18", "12")]))
    | model    |  n |
    | :------- | -: |
    | resnet18 | 12 |
    """
    cells = [[cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows]
    widths = [max(2, *map(len, column)) for column in zip(header, *cells, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])]
    lines = [
        [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        for row in (header, rule, *cells)
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_atomically(path: Path, text: str) -> None:
    """Write a file, and its folder where that is missing, so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
