"""Permutations as files of safetensors, with a digest of all that is in them.

A file holds the indices of every block as ``indices.NAME``, the symmetry as JSON text in the bytes
of ``symmetry``, and what is long in that, the positions of all segments one after another, in
``symmetry.positions``: the header of a file may have 100 MB, its tensors any size. A digest of
names, types, shapes and bytes stands in the header. What was changed, swapped or cut anywhere no
longer agrees with it.

Files from before there was a digest have the indices under the names of blocks, and the whole
symmetry in the header. They are still read if what they say does not contradict itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from ..errors import FileFormatError
from .action import Indices
from .as_json import Content, dumps_apart, loads
from .parts import Group

FORMAT = "fxrebasin.permutation/2"
_INDICES, _TEXT, _POSITIONS = "indices.", "symmetry", "symmetry.positions"

Tensors = Mapping[str, NDArray[np.generic]]


def pack(symmetry: Group, indices: Mapping[str, Indices]) -> bytes:
    """A permutation as the content of a file."""
    text, positions = dumps_apart(symmetry)
    if positions.max(initial=0) < 2**31:
        positions = positions.astype(np.int32)
    tensors: dict[str, NDArray[np.generic]] = {
        _TEXT: np.frombuffer(text.encode(), dtype=np.uint8),
        _POSITIONS: positions,
        **{f"{_INDICES}{name}": np.ascontiguousarray(x) for name, x in indices.items()},
    }
    return save(tensors, {"format": FORMAT, "digest": digest_of(tensors)})


def unpack(path: str | os.PathLike[str]) -> tuple[Content, dict[str, Indices]]:
    """Read what :func:`pack` has made; whether the parts fit together is not looked at.

    Raises:
        FileFormatError: the file is in no format that is known, or is not what was written.
        SafetensorError, KeyError, ...: it is not made as files of this format are.
    """
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if "format" not in metadata and "digest" not in metadata:
        if "symmetry" not in metadata:
            raise FileFormatError(f"expected the format {FORMAT!r}, found tensors of no format")
        return loads(metadata["symmetry"]), tensors
    if metadata.get("format") != FORMAT:
        raise FileFormatError(f"expected the format {FORMAT!r}, found {metadata.get('format')!r}")
    expected, found = metadata.get("digest"), digest_of(tensors)
    if expected != found:
        raise FileFormatError(
            f"expected content with the digest {expected!r} that its header names, found "
            f"{found!r}: the file was changed after it was written"
        )
    text = tensors[_TEXT].tobytes().decode()
    content = loads(text, tensors[_POSITIONS].astype(np.int64))
    return content, {
        name.removeprefix(_INDICES): x for name, x in tensors.items() if name.startswith(_INDICES)
    }


def digest_of(tensors: Tensors) -> str:
    """A SHA-256 of the names, types, shapes and bytes of tensors."""
    whole = hashlib.sha256(FORMAT.encode())
    for name in sorted(tensors):
        x = np.ascontiguousarray(tensors[name])
        whole.update(repr((name, x.dtype.str, x.shape)).encode())
        whole.update(x.reshape(-1).view(np.uint8).data)
    return whole.hexdigest()
