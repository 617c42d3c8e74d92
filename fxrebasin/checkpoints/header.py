"""What the header of a file of safetensors says beside its tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping

from safetensors.torch import load_file

from .saving import save_with_digest


def with_header(
    source: str | os.PathLike[str], path: str | os.PathLike[str], about: Mapping[str, str]
) -> None:
    """Write the tensors of a file to another, with texts and their digest in its header.

    >>> import torch
    >>> from safetensors import safe_open
    >>> save_with_digest({"a": torch.ones(2)}, "a.safetensors", {})
    >>> with_header("a.safetensors", "b.safetensors", {"made": "by hand"})
    >>> with safe_open("b.safetensors", framework="pt") as file:
    ...     print(sorted(file.metadata()))
    ['format', 'fxrebasin.digest', 'made']
    """
    save_with_digest(load_file(source), path, about)
