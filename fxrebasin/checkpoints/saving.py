"""State dicts written to files that appear complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..arguments import check_kind, check_path, refuse
from ..errors import FileFormatError
from ..files import replacing
from ..models.validation import check_state_dict
from .digests import HEADER, digest_of
from .form import Form
from .opening import PICKLED

FORMAT = {"format": "pt"}
"""What other readers of safetensors look for."""


def save(
    state_dict: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    *,
    form: Form | None = None,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write a state dict, under the names and inside the mappings that its file had.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Linear(3, 2)
    >>> fr.save(net.state_dict(), "net.safetensors", about={"made": "by hand"})
    >>> torch.equal(fr.load("net.safetensors")["bias"], net.bias)
    True

    Args:
        state_dict: what is written; not changed.
        path: a name that ends on ``.safetensors``, or on ``.pt``, ``.pth``, ``.bin`` or ``.ckpt``
            for a file of ``torch.save``. The file appears complete or not at all; what is there is
            replaced.
        form: how it is stored, as ``state.form`` of what :func:`fxrebasin.load` has read. By
            default that of ``state_dict``, or as it is. A file of safetensors has names only,
            and nothing around them.
        about: texts for the header of a file of safetensors, such as how it was made. A digest of
            the tensors is always written there, and looked at by :func:`fxrebasin.load`.

    Raises:
        InvalidArgumentError: an argument makes no sense, or the name of the file ends otherwise.
        FileFormatError: safetensors cannot hold it: something is no tensor, or not dense.
        OSError: the folder is missing or cannot be written.
    """
    check_state_dict(state_dict, "state_dict")
    check_path(path)
    form = form if form is not None else getattr(state_dict, "form", Form())
    check_kind(form, Form, "form", "the form of what fr.load has read, or None")
    _check_about(about)
    suffix = Path(path).suffix
    if suffix not in (".safetensors", *PICKLED):
        refuse("path", f"a name that ends on .safetensors, {', '.join(PICKLED)}", os.fspath(path))
    if suffix == ".safetensors":
        tensors = form.named(state_dict)
        for name, tensor in tensors.items():
            _check_storable(name, tensor, path)
        save_with_digest(tensors, path, about or {})
        return
    plain = {n: t.detach() if isinstance(t, Tensor) else t for n, t in state_dict.items()}
    with replacing(path) as draft:
        torch.save(form.wrap(plain), draft)


def _check_about(about: object) -> None:
    """Refuse what is no dict of texts.

    Raises:
        InvalidArgumentError: it is none.
    """
    if about is None:
        return
    expected = "a dict from texts to texts"
    check_kind(about, Mapping, "about", expected)
    assert isinstance(about, Mapping)
    for name, text in about.items():
        if not isinstance(name, str) or not isinstance(text, str):
            refuse("about", expected, about, f"{name!r} is not one from a text to a text")


def _check_storable(name: object, tensor: Any, path: str | os.PathLike[str]) -> None:
    if not isinstance(name, str) or not isinstance(tensor, Tensor):
        raise FileFormatError(
            f"{os.fspath(path)!r} cannot hold {name!r}, which is a {type(tensor).__name__} and no "
            "tensor; write a .pt file"
        )
    is_dense = tensor.layout == torch.strided and not tensor.is_quantized
    if not is_dense or tensor.device.type == "meta":
        raise FileFormatError(
            f"{os.fspath(path)!r} cannot hold {name!r}, which is not a dense tensor with values; "
            "write a .pt file"
        )


def save_tensors(
    tensors: Mapping[str, Tensor], path: str | os.PathLike[str], about: Mapping[str, str]
) -> None:
    """Write tensors as safetensors; the file appears complete or not at all.

    Tied tensors are written under each of their names.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        storage = tensor.untyped_storage()
        alone = storage.nbytes() == tensor.nbytes and storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        if not (alone and tensor.is_contiguous()):
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        apart[name] = tensor
    with replacing(path) as draft:
        save_file(apart, draft, metadata={**FORMAT, **about})


def save_with_digest(
    tensors: Mapping[str, Tensor], path: str | os.PathLike[str], about: Mapping[str, str]
) -> None:
    """The same, with a digest of all that the file says."""
    save_tensors(tensors, path, {**about, HEADER: digest_of(tensors, {**FORMAT, **about})})
