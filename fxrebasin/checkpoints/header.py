"""What the header of a file of safetensors says beside its tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping

from safetensors.torch import load_file

from .digests import HEADER, digest_of
from .saving import save_tensors


def with_header(
    source: str | os.PathLike[str], path: str | os.PathLike[str], about: Mapping[str, str]
) -> None:
    """Write the tensors of a file to another, with texts and their digest in its header.

    >>> import torch
    >>> from safetensors import safe_open
    >>> save_tensors({"a": torch.ones(2)}, "a.safetensors", {})
    >>> with_header("a.safetensors", "b.safetensors", {"made": "by hand"})
    >>> with safe_open("b.safetensors", framework="pt") as file:
    ...     print(sorted(file.metadata()))
    ['format', 'fxrebasin.digest', 'made']
    """
    tensors = load_file(source)
    save_tensors(tensors, path, {HEADER: digest_of(tensors), **about})
