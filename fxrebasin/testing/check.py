"""Is the rule of an op sound, and does it lose symmetry? Both are tested by running the op.

A rule says how the entries of an op's arguments and results can be permuted together. So permute
the arguments, run the op, and compare its results with what the rule says. For lost symmetry,
permute axes that the rule pins, and see whether the op commutes with that all the same.

>>> import torch
>>> def scaled(x, scale):
...     return x.softmax(1) * scale
>>> x, scale = torch.randn(2, 5), torch.randn(5)
>>> print(check_rule(scaled, x, scale, rule="n c, c -> n c"))  # doctest: +ELLIPSIS
scaled: sound (error ...), nothing lost
>>> print(check_rule(scaled, x, scale, rule="_ c, c -> _ c"))  # doctest: +ELLIPSIS
scaled: sound (error ...), symmetry lost:
  x[0] and result[0] can be permuted together, but the rule pins them
>>> print(check_rule(scaled, x, scale, rule="n c, d -> n c"))  # doctest: +ELLIPSIS
scaled: UNSOUND, moving x[1] and result[1] together changes result by ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._library.custom_ops import CustomOpDef

from ..errors import InvalidArgumentError, VerificationError
from ..models.precision import relative_error
from ..rules.acts import PERMUTES, claim_of
from ..rules.call import Rule
from ..rules.registry import as_rule, check_claim, key_of, rule_book
from ..symmetry.group import Symmetry
from ..symmetry.permutation import Permutation
from .allowed import Allowed, allowed_groups, indexed_by
from .as_function import as_function, rule_of_function
from .claimed import refute_claim
from .example import (
    TOLERANCE,
    Draw,
    Tensors,
    draw_integers,
    draw_normal,
    example_of,
    generators,
    join_words,
    shuffle,
)
from .lost import find_lost_symmetry


@dataclass(frozen=True, eq=False)
class RuleCheck:
    """What :func:`check_rule` found. True if the rule is sound."""

    op: str
    sound: bool
    error: float
    """Largest relative difference over everything that was tried."""
    lost: tuple[str, ...]
    """Permutations that the op commutes with and the rule does not allow, in words."""
    symmetry: Symmetry
    """The group that the rule allows; results are listed as ``result`` or ``result.0`` ..."""
    problem: str = ""
    """What went wrong if the rule is not sound."""

    def __bool__(self) -> bool:
        return self.sound

    def __str__(self) -> str:
        if not self.sound:
            return f"{self.op}: UNSOUND, {self.problem}"
        verdict = f"{self.op}: sound (error {self.error:.1e}), "
        if not self.lost:
            return verdict + "nothing lost"
        return "\n  ".join([verdict + "symmetry lost:", *self.lost])

    def raise_if_unsound(self) -> None:
        """Turn an unsound rule into an error.

        Raises:
            VerificationError: the rule allows what the op does not.
        """
        if not self.sound:
            raise VerificationError(
                f"the rule of {self.op} is not sound: {self.problem}; tie together what has to "
                "move together, or pin it"
            )


def check_rule(
    op: Callable[..., Any],
    *args: Any,
    rule: str | Rule | None = None,
    acts: str | None = None,
    seed: int = 0,
    complete: bool = True,
    **kwargs: Any,
) -> RuleCheck:
    """Hold the rule of an op against what the op computes.

    >>> import torch
    >>> check = check_rule(torch.ops.aten.mm, torch.randn(2, 3), torch.randn(3, 4))
    >>> check.sound, check.lost
    (True, ())

    The rule is applied once with units on every axis of every argument, and once per argument
    with units on the axes of that one only, which the others adopt as weights do. The group that
    follows is checked on its generators, so soundness is exact for the values tried. Lost symmetry
    is sought among whole axes of one size, their equal blocks, and positions inside these. Give
    sizes from 2 to 6 that are mostly distinct, and their products where an axis is a product.

    Args:
        op: an ATen op, a ``torch.library`` op, any function of tensors, or a module, whose
            parameters are permuted as well. It has to be deterministic, and to run in float64.
        args, kwargs: example arguments. Floating-point tensors are permuted, in float64; the
            values of one with repeated entries are varied. Others are constants.
        rule: a signature or a function, as for ``fxrebasin.register_rule``; by default the one
            that is registered or built in.
        acts: what else the op is said to commute with, as for ``fxrebasin.register_rule``; by
            default what was said when the rule was registered.
        seed: of the permutations and values tried beyond those given.
        complete: also search for symmetry that the rule loses, which takes most of the time.

    Raises:
        InvalidArgumentError: no argument is a floating-point tensor, or the op has no rule.
        InvalidInputError: the op does not run on the arguments.
        RuleError: the rule claims results of another shape.
        SignatureError: the signature cannot be read or does not fit the arguments.

    Source:
        The idea of testing rules against execution: PyTorch's DTensor,
        ``torch/distributed/tensor/_ops/strategy_validation.py``.
    """
    generator = torch.Generator().manual_seed(seed)
    rule = _rule_of(op, rule)
    acts = claim_of(rule) if acts is None else acts
    check_claim(acts)
    if isinstance(op, nn.Module):
        module = op
        op, stored = as_function(module)
        rule, kwargs = rule_of_function(rule, module, list(stored)), {**kwargs, **stored}
    example = example_of(op, args, kwargs, generator)
    draws = [example.draw(example.tensors)]
    draws += example.redraws([shuffle], generator)
    error = 0.0
    allowed: list[Allowed] = []
    for group in allowed_groups(example, rule):
        allowed.append(group)
        worse, problem = _find_worst(group, draws, generator)
        if not problem and acts != PERMUTES:
            beyond, problem = refute_claim(group, draws, acts, generator)
            worse = max(worse, beyond)
        error = max(error, worse)
        if problem:
            return RuleCheck(example.name, False, error, (), group.symmetry, problem)
    lost: tuple[str, ...] = ()
    if complete:
        kinds = [draw_normal, *[draw_integers] * 5]
        lost = find_lost_symmetry(allowed, draws + example.redraws(kinds, generator))
    return RuleCheck(example.name, True, error, lost, allowed[0].symmetry)


def _rule_of(op: Any, rule: str | Rule | None) -> Rule:
    if rule is not None:
        return as_rule(type(op) if isinstance(op, nn.Module) else op, rule)
    if isinstance(op, CustomOpDef):
        op = op._opoverload
    if isinstance(op, torch._ops.OpOverloadPacket):
        op = getattr(op, op.overloads()[0])
    book, key = rule_book(), key_of(type(op) if isinstance(op, nn.Module) else op)
    if isinstance(op, torch._ops.OpOverload):
        found = book.of_op(op)
    elif isinstance(op, nn.Module):
        found = book.of_module(op)
    else:
        found = book.of_method(key[1]) if isinstance(key, tuple) else book.of_function(op)
    if found is None:
        raise InvalidArgumentError(
            f"{getattr(op, '__name__', op)} has no rule: it is neither registered, nor built in, "
            "nor a pointwise op; pass rule='...' or call fxrebasin.register_rule first"
        )
    return found


def _find_worst(
    allowed: Allowed, draws: Sequence[Draw], generator: torch.Generator
) -> tuple[float, str]:
    """The largest error, and in words where it came from if that is too much."""
    error = 0.0
    for draw in draws:
        for name, result in draw.results.items():
            if _spread(result, allowed.ids[name]) > TOLERANCE:
                return float("inf"), f"it says that entries of {name} are equal which are not"
    for block, permutation in _elements(allowed.symmetry, generator):
        for draw in draws:
            moved = _permute(allowed, permutation, draw.everything)
            found = draw.example.run(moved)
            for name, result in found.items():
                error = max(error, relative_error(moved[name], result))
                if not error <= TOLERANCE:
                    axes = allowed.symmetry.blocks[block].axes if block else ()
                    what = join_words([f"{n}[{a}]" for n, a in axes]) or "all blocks"
                    what += " together" if len(axes) != 1 else ""
                    return error, f"moving {what} changes {name} by {error:.1e} (relative)"
    return error, ""


def _permute(
    allowed: Allowed, permutation: Permutation, tensors: Tensors
) -> dict[str, torch.Tensor]:
    """Arguments and results after the permutation; indices of units become their new places."""
    places = {indexed_by(n): torch.arange(prod(s)).reshape(s) for n, s in allowed.indexed.items()}
    moved = permutation.apply({**tensors, **places})
    for name in allowed.indexed:
        new_place = moved.pop(indexed_by(name)).flatten().argsort()
        moved[name] = new_place[moved[name]]
    return moved


def _spread(tensor: torch.Tensor, ids: torch.Tensor) -> float:
    """The largest difference between entries with the same number."""
    _, first, inverse = np.unique(ids.numpy(), return_index=True, return_inverse=True)
    return relative_error(tensor.flatten()[first][inverse.ravel()], tensor.flatten())


def _elements(symmetry: Symmetry, generator: torch.Generator) -> Iterator[tuple[str, Permutation]]:
    """Generators of the group, each with the block that it moves, and two random elements.

    A swap and a cycle generate all permutations of one set. Of a nested block it is enough to
    move one set, since its parents' permutations take it to all others.
    """
    for block in symmetry:
        for source in generators(block.size):
            indices = dict(Permutation.identity(symmetry).indices)
            indices[block.name] = indices[block.name].copy()
            indices[block.name][0] = source
            yield block.name, Permutation(symmetry, indices)
    for _ in range(2):
        yield "", Permutation.random(symmetry, generator)
