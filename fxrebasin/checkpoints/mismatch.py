"""Why a state dict does not fit a model: the first keys that differ, and the likely reason."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from ..errors import ArchitectureMismatchError
from ..models.validation import PREFIXES
from .form import spelled

Shapes = Mapping[str, tuple[int, ...]]

OPTIONAL = ("num_batches_tracked", "position_ids", "inv_freq", ".attn.bias", "masked_bias")
"""How buffers are named that versions of torch and transformers store or leave out."""


def shapes_of(state_dict: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor."""
    return {name: tuple(tensor.shape) for name, tensor in state_dict.items()}


def check_fits(found: Shapes, expected: Shapes, *, named: tuple[str, str]) -> None:
    """Refuse a state dict of other names or shapes than a model has.

    Args:
        found: the shapes in the file.
        expected: the shapes that the model has.
        named: what errors call the two.

    Raises:
        ArchitectureMismatchError: naming the first keys that differ, and the likely reason.
    """
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    other = [n for n in expected if n in found and found[n] != expected[n]]
    if not missing and not unknown and not other:
        return
    shared = found.keys() & expected.keys()
    file, model = named
    says = []
    if missing:
        says.append(f"lacks {spelled(missing)}")
    if unknown:
        says.append(f"has {spelled(unknown)}, which {model} does not have")
    if other:
        shapes = ", ".join(f"{n!r} {found[n]} for {expected[n]}" for n in other[:3])
        says.append(f"has tensors of other shapes: {shapes}{_more(other)}")
    reason = _of_names(missing, unknown, shared, is_alike=not other)
    reason = reason or _of_shapes(other, found, expected)
    raise ArchitectureMismatchError(
        f"{file} does not fit {model}: it {', and '.join(says)}. Likely reason: {reason}"
    )


def common_prefix(found: Shapes, expected: Shapes) -> str:
    """What stands in front of all names, and only that: without it they are those of the model.

    >>> common_prefix({"net.weight": (2,)}, {"weight": (2,)})
    'net.'
    """
    first = next(iter(found), "")
    for name in expected:
        prefix = first.removesuffix(name)
        if not first.endswith(f".{name}") or not all(n.startswith(prefix) for n in found):
            continue
        if {n.removeprefix(prefix) for n in found} <= expected.keys():
            return prefix
    return ""


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 3} more" if len(names) > 3 else ""


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _unnumbered(name: str) -> str:
    """What layers of one kind have in common."""
    return re.sub(r"(^|\.)\d+(?=\.|$)", r"\g<1>0", name)


def _of_names(
    missing: Sequence[str], unknown: Sequence[str], shared: Collection[str], *, is_alike: bool
) -> str:
    """What names that differ come from."""
    if not missing and not unknown:
        return ""
    if all(name.endswith(OPTIONAL) for name in (*missing, *unknown)):
        return "buffers that another version of torch or transformers stores or leaves out"
    for long, short, where in ((unknown, missing, "file"), (missing, unknown, "model")):
        for name in long:
            inner = next((s for s in short if name.endswith(f".{s}")), None)
            if inner is not None:
                prefix = name.removesuffix(inner)
                made = [by for p, by in PREFIXES.items() if p in prefix]
                by = f", which {' and '.join(made)} puts there" if made else ""
                return f"the prefix {prefix!r} in front of the names of the {where}{by}"
    if not missing or not unknown:
        own, others = ({_module(n) for n in names} for names in ((*missing, *unknown), shared))
        if not own & others and {*map(_unnumbered, own)} <= {*map(_unnumbered, others)}:
            return "another depth"
        if not is_alike:
            return "another architecture of the same family"
        return "other options of the architecture, such as biases or a head of its own"
    return "another architecture, or another implementation of it"


def _of_shapes(other: Sequence[str], found: Shapes, expected: Shapes) -> str:
    """What shapes that differ come from."""
    matrices = [name for name in other if len(found[name]) == len(expected[name]) == 2]
    if matrices and len(matrices) == len(other) and _are_transposed(matrices, found, expected):
        return "matrices stored transposed, as layers (in, out) are: Conv1D, or those of JAX"
    if any(len(found[name]) != len(expected[name]) for name in other):
        return "another architecture: the tensors have other numbers of dimensions"
    if len({_module(name) for name in other}) == 1:
        name = other[0]
        if found[name][1:] == expected[name][1:]:
            return (
                f"another number of outputs, {found[name][0]} where the model has "
                f"{expected[name][0]}; make the model with that, as num_classes={found[name][0]}"
            )
        return "a layer of other sizes, as for other inputs or a vocabulary of another size"
    one, two = found[other[0]], expected[other[0]]
    k = next(k for k, (m, n) in enumerate(zip(one, two, strict=True)) if m != n)
    if k > 1:
        return f"kernels or patches of another size, {one[k]} where the model has {two[k]}"
    return f"another width, {one[k]} where the model has {two[k]}"


def _are_transposed(names: Sequence[str], found: Shapes, expected: Shapes) -> bool:
    return all(found[name] == expected[name][::-1] for name in names)
