"""State dicts that remember how their file stored them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from ..arguments import refuse
from ..errors import FileFormatError
from ..models.validation import check_state_dict
from .digests import HEADER, digest_of
from .form import Form
from .mismatch import check_fits, common_prefix, shapes_of
from .opening import Checkpoint, open_checkpoint

logger = logging.getLogger(__name__)


class StateDict(dict[str, Tensor]):
    """A state dict with ``form``, in which its file stores it; :func:`fxrebasin.save` keeps that.

    :func:`fxrebasin.load` makes one. Copies, and what ``Permutation.apply`` makes of it, have the
    same form.
    """

    def __init__(self, tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]], form: Form):
        super().__init__(tensors)
        self.form = form


def load(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    like: nn.Module | Mapping[str, Tensor] | None = None,
) -> StateDict:
    """Read the state dict in a file or folder; code in it is never run.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Linear(3, 2)
    >>> wrapped = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    >>> torch.save({"epoch": 3, "state_dict": wrapped}, "epoch-3.pt")
    >>> state = fr.load("epoch-3.pt", like=net)
    >>> [*state]
    ['weight', 'bias']
    >>> for remark in state.form.remarks:
    ...     print(remark)
    the state dict is in ['state_dict']
    'weight' is stored as 'module.weight', as DataParallel or DistributedDataParallel names it
    >>> fr.save(state, "again.pt")  # with the names and the nesting that the file had
    >>> [*torch.load("again.pt", weights_only=True)["state_dict"]]
    ['module.weight', 'module.bias']

    Args:
        path: a file or folder, as :func:`fxrebasin.open_checkpoint` takes one. That reads tensors
            one at a time; this reads them all.
        key: under which the state dict is in a file of ``torch.save``, as there.
        like: the model, or its state dict, that it is for. Names and shapes must then be those of
            the model. What stands in front of all names, as Lightning puts the name of an
            attribute there, is taken off; what the model ties may be stored once, and counts of
            batches, which old files lack, not at all.

    Returns:
        A dict of tensors on the CPU, under the names that the model has, with the ``form`` of the
        file.

    Raises:
        ArchitectureMismatchError: it does not fit ``like``; the first keys that differ are named,
            and the likely reason.
        FileFormatError: there is no state dict in it, it would have to run code, or it was changed
            after :func:`fxrebasin.save` wrote it. The error names the file.
        OSError: a file is missing or cannot be read.
        InvalidArgumentError: an argument makes no sense.
    """
    if like is not None:
        if not isinstance(like, (nn.Module, Mapping)):
            refuse("like", "a model, its state dict, or None", like)
        if isinstance(like, Mapping):
            check_state_dict(like, "like")
    checkpoint = open_checkpoint(path, key=key)
    tensors = {name: checkpoint[name] for name in checkpoint}
    _check_digests(checkpoint, tensors)
    state = StateDict(tensors, checkpoint.form)
    if like is not None:
        state = fitted(state, like, Path(path))
    for remark in state.form.remarks:
        logger.info("%s: %s", path, remark)
    return state


def fitted(state: StateDict, like: nn.Module | Mapping[str, Tensor], path: Path) -> StateDict:
    """The same under the names of a model, with what the model ties.

    Raises:
        ArchitectureMismatchError: it does not fit.
    """
    module = like.state_dict() if isinstance(like, nn.Module) else like
    known = {name: tensor for name, tensor in module.items() if isinstance(tensor, Tensor)}
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    form = state.form
    prefix = common_prefix(shapes_of(tensors), shapes_of(known))
    if prefix:
        names = {n.removeprefix(prefix): form.names.get(n, n) for n in tensors}
        tensors = {n.removeprefix(prefix): tensor for n, tensor in tensors.items()}
        form = replace(form, names=names)
    implied = _tied(known, tensors) | _counters(known, tensors)
    tensors.update(implied)
    form = replace(form, implied=frozenset(implied))
    named = (repr(os.fspath(path)), "the model")
    check_fits(shapes_of(tensors), shapes_of(known), named=named)
    return StateDict({name: tensors[name] for name in known}, form)


def _tied(known: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is not given, but is one tensor with something that is."""
    at: dict[tuple[object, ...], str] = {}
    for name, tensor in known.items():
        if name in given and tensor.numel():
            at.setdefault((tensor.data_ptr(), tensor.shape), name)
    missing = ((n, at.get((t.data_ptr(), t.shape))) for n, t in known.items() if n not in given)
    return {name: given[twin] for name, twin in missing if twin is not None}


def _counters(known: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The counts of batches that BatchNorm has had since torch 0.4.1, and files from before lack.

    They do not matter to what a model computes.
    """
    found = {}
    for name, tensor in known.items():
        layer, _, own = name.rpartition(".")
        is_missing = own == "num_batches_tracked" and name not in given
        if is_missing and f"{layer}.running_mean" in given:
            found[name] = tensor.clone()
    return found


def _check_digests(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
    """Refuse files of this library that were changed."""
    stored = {checkpoint.form.names.get(name, name): tensor for name, tensor in tensors.items()}
    for part in checkpoint.parts:
        expected = part.about.get(HEADER)
        if expected is None or not stored.keys() >= set(part.names):
            continue
        if digest_of({name: stored[name] for name in part.names}, part.about) != expected:
            raise FileFormatError(
                f"{str(part.path)!r} was changed after it was written: its tensors do not have the "
                "digest that its header names; copy or write it again"
            )
