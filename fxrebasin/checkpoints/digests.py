"""A digest of all that a file says, which the header of a file that this library writes holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor

HEADER = "fxrebasin.digest"
"""The entry of the header of safetensors that it stands in."""


def digest_of(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """A SHA-256 of the names, types, shapes and entries of tensors, and of texts about them.

    >>> one, other = torch.zeros(2), torch.zeros(2)
    >>> digest_of({"a": one}, {}) == digest_of({"a": other}, {})
    True
    >>> digest_of({"a": one}, {}) == digest_of({"a": other[:1]}, {})
    False
    """
    said = {key: text for key, text in about.items() if key != HEADER}
    whole = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        whole.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        entries = tensor.contiguous().reshape(-1).view(torch.uint8)
        whole.update(entries.numpy().data)
    return whole.hexdigest()
