"""Transforms as files of safetensors, with a digest of all that is in them.

A file holds the indices of every block as ``indices.NAME``, where there are any its signs, scales
and matrices as ``signs.NAME``, ``log_scales.NAME`` and ``matrices.NAME``, the symmetry as JSON text
in the bytes of ``symmetry``, and what is long in that, the positions of all segments one after
another, in ``symmetry.positions``: the header of a file may have 100 MB, its tensors any size. A
digest of names, types, shapes and bytes stands in the header. What was changed, swapped or cut
anywhere no longer agrees with it.

Files from before there was a digest have the indices under the names of blocks, and the whole
symmetry in the header. They are still read if what they say does not contradict itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from ..errors import FileFormatError
from .as_json import Content, dumps_apart, loads
from .elements import Elements
from .parts import Group

FORMAT = "fxrebasin.permutation/2"
"""Of what has indices only."""
FORMAT_OF_TRANSFORMS = "fxrebasin.transform/1"
_TEXT, _POSITIONS = "symmetry", "symmetry.positions"

Tensors = Mapping[str, NDArray[np.generic]]


def pack(symmetry: Group, elements: Elements) -> bytes:
    """A transform as the content of a file."""
    permutes_only = not (elements.signs or elements.log_scales or elements.matrices)
    text, positions = dumps_apart(symmetry, kinds=not permutes_only)
    if positions.max(initial=0) < 2**31:
        positions = positions.astype(np.int32)
    tensors: dict[str, NDArray[np.generic]] = {
        _TEXT: np.frombuffer(text.encode(), dtype=np.uint8),
        _POSITIONS: positions,
        **_arrays_of(elements),
    }
    known = FORMAT if permutes_only else FORMAT_OF_TRANSFORMS
    return save(tensors, {"format": known, "digest": digest_of(tensors, known)})


def _arrays_of(elements: Elements) -> dict[str, NDArray[np.generic]]:
    arrays = {}
    for part, found in elements._asdict().items():
        for name, x in found.items():
            array = x.numpy() if isinstance(x, torch.Tensor) else x
            arrays[f"{part}.{name}"] = np.ascontiguousarray(array)
    return arrays


def digest_of_elements(fingerprint: str, elements: Elements) -> str:
    """A SHA-256 of a symmetry's fingerprint and of what becomes of every unit."""
    return digest_of(_arrays_of(elements), fingerprint)


def unpack(path: str | os.PathLike[str]) -> tuple[Content, Elements]:
    """Read what :func:`pack` has made; whether the parts fit together is not looked at.

    Raises:
        FileFormatError: the file is in no format that is known, or is not what was written.
        SafetensorError, KeyError, ...: it is not made as files of this format are.
    """
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    known = metadata.get("format")
    if known is None and "digest" not in metadata:
        if "symmetry" not in metadata:
            raise FileFormatError(f"expected the format {FORMAT!r}, found tensors of no format")
        return loads(metadata["symmetry"]), Elements(tensors, {}, {}, {})
    if known not in (FORMAT, FORMAT_OF_TRANSFORMS):
        raise FileFormatError(f"expected the format {FORMAT!r}, found {known!r}")
    expected, found = metadata.get("digest"), digest_of(tensors, known)
    if expected != found:
        raise FileFormatError(
            f"expected content with the digest {expected!r} that its header names, found "
            f"{found!r}: the file was changed after it was written"
        )
    text = tensors[_TEXT].tobytes().decode()
    content = loads(text, tensors[_POSITIONS].astype(np.int64))
    indices, signs, log_scales, matrices = (_part(tensors, part) for part in Elements._fields)
    return content, Elements(indices, signs, _as_torch(log_scales), _as_torch(matrices))


def _part(tensors: Tensors, part: str) -> dict[str, NDArray[Any]]:
    start = f"{part}."
    return {name.removeprefix(start): x for name, x in tensors.items() if name.startswith(start)}


def _as_torch(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(x) for name, x in arrays.items()}


def digest_of(tensors: Tensors, known: str = FORMAT) -> str:
    """A SHA-256 of a format, and of the names, types, shapes and bytes of tensors."""
    whole = hashlib.sha256(known.encode())
    for name in sorted(tensors):
        x = np.ascontiguousarray(tensors[name])
        whole.update(repr((name, x.dtype.str, x.shape)).encode())
        whole.update(x.reshape(-1).view(np.uint8).data)
    return whole.hexdigest()
