"""Kill -9 at random moments of writing: what has the name of the file is absent, or complete.

A process writes one version after another under one name, until it is killed. Then the file is read
and every entry is looked at: all must be of one version. It counts as torn where they are not, or
where it cannot be read. What a killed process leaves beside it are files under temporary names.

    python -m benchmarks.files --table benchmarks/files/files.md
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

import fxrebasin as fr
from benchmarks.measuring.reporting import (
    commit,
    markdown_table,
    parser_of,
    provenance,
    write_atomically,
)
from fxrebasin.files import replacing_folder

ENTRIES = 1 << 20
LONGEST = 0.6
"""Seconds until a process is killed, at most."""
HEADER = ("written by", "killed", "absent", "complete", "torn", "temporary files left")
NET = nn.Sequential(nn.Linear(4, 4096), nn.ReLU(), nn.Linear(4096, 4))


class Writer(NamedTuple):
    """A way to write, and to read back what was written."""

    name: str
    end: str
    """Of the name of the file."""
    write: Callable[[Path, int], None]
    read: Callable[[Path], list[Tensor]]
    """The tensors, of which every entry is to be the version."""


def state(version: int) -> dict[str, Tensor]:
    return {f"layer.{k}": torch.full((ENTRIES,), float(version)) for k in range(4)}


def write_folder(path: Path, version: int) -> None:
    with replacing_folder(path) as draft:
        for k in range(2):
            fr.save(state(version), draft / f"model-{k}.safetensors")


def writers() -> list[Writer]:
    symmetry = fr.analyze(NET, (torch.zeros(1, 4),))
    drawn = [
        fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed)) for seed in range(8)
    ]

    def load_permutation(path: Path) -> list[Tensor]:
        found = fr.Permutation.load(path)
        return [torch.tensor([float(drawn.index(found))])]

    return [
        Writer(
            "`fr.save`, safetensors", ".safetensors", lambda p, v: fr.save(state(v), p), read_file
        ),
        Writer("`fr.save`, `torch.save`", ".pt", lambda p, v: fr.save(state(v), p), read_file),
        Writer(
            "a folder of two files",
            "",
            write_folder,
            lambda p: [t for file in sorted(p.iterdir()) for t in fr.load(file).values()],
        ),
        Writer(
            "`Permutation.save`",
            ".safetensors",
            lambda p, v: drawn[v % 8].save(p),
            load_permutation,
        ),
    ]


def read_file(path: Path) -> list[Tensor]:
    return [*fr.load(path).values()]


def killed_while_writing(writer: Writer, path: Path, seconds: float) -> None:
    """Write version after version in a process of its own, which is killed meanwhile."""
    child = os.fork()
    if child == 0:
        version = 0
        while True:
            writer.write(path, version)
            version += 1
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def verdict(writer: Writer, path: Path) -> str:
    if not path.exists():
        return "absent"
    try:
        tensors = writer.read(path)
    except (ValueError, OSError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return "torn"
    version = tensors[0][0]
    return "complete" if all(bool((t == version).all()) for t in tensors) else "torn"


def main() -> None:
    parser = parser_of("benchmarks.files", __doc__)
    parser.add_argument("--kills", type=int, default=100, help="of each kind of file")
    parser.add_argument("--table", type=Path, help="write the Markdown table here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    draw = random.Random(0)
    rows = []
    for writer in writers():
        seen: Counter[str] = Counter()
        left = 0
        for _ in tqdm(range(args.kills), desc=writer.name, file=sys.stderr, disable=None):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, f"file{writer.end}")
                killed_while_writing(writer, path, draw.uniform(0, LONGEST))
                seen[verdict(writer, path)] += 1
                left += sum(other != path for other in Path(folder).iterdir())
        counts = (seen["absent"], seen["complete"], seen["torn"], left)
        rows.append((writer.name, *map(str, (args.kills, *counts))))
    table = markdown_table(HEADER, rows)
    print(table)
    if args.table:
        note = (
            "`python -m benchmarks.files` measures this table: a process writes version after "
            "version under one name until it is killed (SIGKILL) at a random moment, "
            f"{LONGEST:.1f} s after its start at most. Complete: every entry is of one version, "
            "and the digest is that of the header, where the file has one."
        )
        header = f"# Killed while writing\n\n{provenance([commit()], [1])}"
        write_atomically(args.table, f"{header}\n{note}\n\n{table}\n")


if __name__ == "__main__":
    main()
