"""Is the rule of an op right, and does it lose symmetry? The op itself is asked.

A rule says how the entries of an op's arguments and results can be permuted together. That can be
tried out: permute the arguments, run the op, and see whether its results come out permuted as the
rule says. And the other way round: permute axes that the rule holds in place, and see whether the
op minds.

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

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch._library.custom_ops import CustomOpDef
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from .dispatch import LayoutMode, Propagation, Stored, unnamed_parameters
from .errors import InvalidArgumentError, InvalidInputError, RuleError, VerificationError
from .layout import Layout, varies_on
from .parameters import Parameter, resolve
from .permutation import Permutation, take
from .relations import settle
from .rules.book import as_rule, key_of, rule_book
from .rules.registry import Call, Rule
from .segments import build_symmetry
from .symmetry import AxisGroup, Symmetry
from .units import Ids, Units

TOLERANCE = 1e-10
"""Largest difference that rounding may cause in float64, relative to a result's largest entry."""

SUBSETS = 600
"""How many sets of axes of one size are tried in search of lost symmetry, smallest first."""

Tensors = Mapping[str, torch.Tensor]


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
    with that argument's units only, which the others adopt as weights do. The group that follows
    is checked on its generators, so soundness is exact for the values tried; symmetry is sought
    among whole axes of one size, their equal blocks, and places inside these. Give sizes that are
    mostly distinct, 2 to 6, and products of those where an axis is a product.

    Args:
        op: an ATen op, a ``torch.library`` op, or any function of tensors. It has to be
            deterministic, and to run in float64.
        args, kwargs: example arguments. Floating-point tensors are permuted, in float64; the
            values of one with repeated entries are varied. Others are constants.
        rule: a signature or a function, as for ``fxrebasin.register_rule``; by default the one
            that is registered or built in.
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
    example = _example(op, args, kwargs, generator)
    rule = _rule_of(op, rule)
    draws = [example.draw(example.tensors)]
    draws += example.redraws([_shuffled], generator)
    error = 0.0
    claims: list[_Claim] = []
    for claim in _claims(example, rule):
        claims.append(claim)
        worse, problem = _worst(claim, draws, generator)
        error = max(error, worse)
        if problem:
            return RuleCheck(example.name, False, error, (), claim.symmetry, problem)
    lost: tuple[str, ...] = ()
    if complete:
        lost = _lost(claims, draws + example.redraws([_normal, *[_rounded] * 5], generator))
    return RuleCheck(example.name, True, error, lost, claims[0].symmetry)


# the op


@dataclass(frozen=True)
class _Draw:
    """Values of the arguments, and what the op makes of them."""

    example: _Example
    tensors: Tensors
    results: Tensors

    @property
    def everything(self) -> dict[str, torch.Tensor]:
        return {**self.tensors, **self.results}


@dataclass(frozen=True)
class _Example:
    """One call of the op at hand."""

    name: str
    op: Callable[..., Any]
    leaves: list[Any]
    spec: TreeSpec
    """Of the positional and keyword arguments."""
    tensors: dict[str, torch.Tensor]
    """What is permuted: every floating-point tensor among the arguments, in float64."""
    schema: torch.FunctionSchema | None
    device: torch.device
    """Where the op is run; everything else happens on the CPU."""

    def arguments(self, given: Callable[[torch.Tensor], Any]) -> tuple[Any, Any]:
        """Positional and keyword arguments, with something else in the place of each tensor."""
        leaves = [given(t) if isinstance(t, torch.Tensor) else t for t in self.leaves]
        args, kwargs = tree_unflatten(leaves, self.spec)
        return args, kwargs

    def run(self, tensors: Tensors) -> dict[str, torch.Tensor]:
        names = {id(t): name for name, t in self.tensors.items()}
        args, kwargs = self.arguments(
            lambda t: tensors.get(names.get(id(t), ""), t).to(self.device, copy=True)
        )
        with torch.no_grad():
            out = self.op(*args, **kwargs)
        found = [t.cpu() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        if len(found) == 1:
            return {"result": found[0]}
        return {f"result.{k}": t for k, t in enumerate(found)}

    def draw(self, tensors: Tensors) -> _Draw:
        return _Draw(self, tensors, self.run(tensors))

    def redraws(self, kinds: Sequence[Redraw], generator: torch.Generator) -> list[_Draw]:
        """Other values of the arguments, where the op takes them."""
        found = []
        for redraw in kinds:
            try:
                tensors = {name: redraw(t, generator) for name, t in self.tensors.items()}
                found.append(self.draw(tensors))
            except RuntimeError:
                continue
        return found


def _example(
    op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], generator: torch.Generator
) -> _Example:
    name, schema = getattr(op, "__name__", str(op)), None
    if isinstance(op, CustomOpDef):
        op = op._opoverload
    if isinstance(op, torch._ops.OpOverloadPacket):
        op = _overload(op, args, kwargs)
    if isinstance(op, torch._ops.OpOverload):
        name, schema = str(op), op._schema
        args, kwargs = _by_schema(op._schema, args, kwargs)
    labels = [a.name for a in schema.arguments] if schema else _argument_names(op, len(args))
    values = [*zip(labels, args, strict=False), *kwargs.items()]
    taken: dict[int, torch.Tensor] = {}
    tensors: dict[str, torch.Tensor] = {}
    for label, value in values:
        leaves = tree_leaves(value)
        for k, t in enumerate(leaves):
            if isinstance(t, torch.Tensor) and id(t) not in taken:
                taken[id(t)] = _distinct(t, generator)
                if t.is_floating_point() or t.is_complex():
                    tensors[label if value is t else f"{label}.{k}"] = taken[id(t)]
    if not any(t.numel() > 1 for t in tensors.values()):
        kinds = ", ".join(_kind(v) for _, v in values) or "none"
        raise InvalidArgumentError(
            f"check_rule permutes floating-point tensors, but {name} was given none that has "
            f"anything to permute (arguments: {kinds})"
        )
    leaves, spec = tree_flatten((args, kwargs))
    leaves = [taken.get(id(leaf), leaf) for leaf in leaves]
    device = next(t.device for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor))
    example = _Example(name, op, leaves, spec, tensors, schema, device)
    try:
        results = example.run(tensors)
    except Exception as error:
        shapes = {k: tuple(t.shape) for k, t in tensors.items()}
        raise InvalidInputError(
            f"{name} does not run on these arguments in float64, of shapes {shapes}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not results:
        raise InvalidInputError(f"{name} returns no tensor on these arguments")
    return example


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return type(value).__name__


def _overload(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The overload that a call of the packet runs."""
    try:
        name = torch._C._jit_resolve_packet(op._qualified_op_name, *args, **kwargs)
    except RuntimeError as error:
        raise InvalidInputError(f"{op} does not take these arguments: {error}") from error
    return getattr(op, name or "default")


def _by_schema(
    schema: torch.FunctionSchema, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments as torch's dispatcher passes them on, which is how rules expect them."""
    given, named = list(args), dict(kwargs)
    for argument in schema.arguments[len(args) :]:
        if argument.kwarg_only or not named.keys() & {a.name for a in schema.arguments}:
            break
        given.append(named.pop(argument.name, argument.default_value))
    return tuple(given), named


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    return [names[k] if k < len(names) else f"argument {k}" for k in range(count)]


def _distinct(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A copy in float64, scaled at random where entries repeat: equal ones would hide errors."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor.detach().to("cpu", copy=True)
    dtype = torch.complex128 if tensor.is_complex() else torch.float64
    tensor = tensor.detach().to("cpu", dtype, copy=True).contiguous()
    if np.unique(tensor.numpy()).size == tensor.numel():
        return tensor
    factors = (1 + torch.rand(tensor.shape, generator=generator, dtype=torch.float64)) / 2
    return torch.where(tensor == 0, factors - 0.5, tensor * factors)


Redraw = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def _shuffled(t: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The same values, which the op is known to take, at other places."""
    return t.flatten()[torch.randperm(t.numel(), generator=generator)].reshape(t.shape)


def _normal(t: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return 2 * torch.randn(t.shape, generator=generator, dtype=t.dtype)


def _rounded(t: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Values that are often equal, zero or integers, which some ops tell from all others."""
    return torch.randint(-1, 3, t.shape, generator=generator).to(t.dtype)


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference of two entries, relative to the largest finite one."""
    if found.shape != expected.shape:
        return float("inf")
    a, b = found.numpy(), expected.numpy()
    same = (a == b) | ((a != a) & (b != b))
    if same.all():
        return 0.0
    a, b = (v.astype(np.complex128 if np.iscomplexobj(v) else np.float64) for v in (a, b))
    scale = np.abs(b[np.isfinite(b)]).max(initial=1e-300)
    worst = float(np.abs(a - b)[~same].max() / scale)
    return worst if worst == worst else float("inf")


# what the rule claims


@dataclass(frozen=True)
class _Claim:
    """The group that a rule allows, given what had units before the op."""

    symmetry: Symmetry
    ids: dict[str, torch.Tensor]
    """Per tensor, a number per entry; equal where the layout says that the values are."""
    orders: dict[str, tuple[int, ...]]
    """Per result that holds numbers of units, how many those are along each axis."""


def _rule_of(op: Any, rule: str | Rule | None) -> Rule:
    if rule is not None:
        return as_rule(op, rule)
    if isinstance(op, CustomOpDef):
        op = op._opoverload
    if isinstance(op, torch._ops.OpOverloadPacket):
        op = getattr(op, op.overloads()[0])
    book, key = rule_book(), key_of(op)
    if isinstance(op, torch._ops.OpOverload):
        found = book.of_op(op)
    else:
        found = book.of_method(key[1]) if isinstance(key, tuple) else book.of_function(op)
    if found is None:
        raise InvalidArgumentError(
            f"{getattr(op, '__name__', op)} has no rule: it is neither registered, nor built in, "
            "nor a pointwise op; pass rule='...' or call fxrebasin.register_rule first"
        )
    return found


def _claims(example: _Example, rule: Rule) -> Iterator[_Claim]:
    """The first claim names every argument, each other one only one of them."""
    names = list(example.tensors)
    for named in [names, *([name] for name in names if len(names) > 1)]:
        yield _claim(example, rule, named)


def _claim(example: _Example, rule: Rule, named: Sequence[str]) -> _Claim:
    units = Units(site=example.name)
    stored = [Stored(t, [name], False) for name, t in example.tensors.items()]
    found = Propagation(units, unnamed_parameters(stored, units), nx.MultiGraph())
    mode = LayoutMode(found, stored)
    up_front = {id(example.tensors[name]) for name in named}

    def layout_of(t: torch.Tensor) -> Layout:
        layout = mode.layout_of(t)
        return resolve(units, layout) if id(t) in up_front else layout

    args, kwargs = example.arguments(layout_of)
    results = example.run(example.tensors)
    shapes = tuple(tuple(t.shape) for t in results.values())
    call = Call(units, example.name, shapes, schema=example.schema)
    layouts = _apply(rule, call, args, kwargs)
    for t in example.tensors.values():
        resolve(units, mode.layout_of(t))
    ids = {p.name: _numbered(p.shape, p.named()) for p in found.parameters}
    orders = {}
    for name, layout in zip(results, layouts, strict=True):
        x = settle(units, resolve(units, layout))
        ids[name] = _numbered(x.shape, x.coordinates)
        found.parameters.append(Parameter((name,), x.shape, False, (), _with_copies(units, x)))
        if layout.order_of is not None:
            x = settle(units, resolve(units, layout.order_of))
            orders[name] = x.shape
            found.parameters.append(
                Parameter((_order(name),), x.shape, False, (), [*x.coordinates])
            )
    return _Claim(build_symmetry(found), ids, orders)


def _order(result: str) -> str:
    return f"what {result} numbers"


def _apply(rule: Rule, call: Call, args: Any, kwargs: Any) -> list[Layout]:
    found = rule(call, *args, **kwargs)
    layouts = [found] if isinstance(found, Layout) else list(found)
    layouts += call.pinned()[len(layouts) :]
    claimed = tuple(layout.shape for layout in layouts)
    if claimed != call.shapes:
        raise RuleError(
            f"the rule of {call.op} claims results of shapes {claimed}, but they are {call.shapes}"
        )
    return layouts


def _numbered(shape: tuple[int, ...], coordinates: Sequence[Ids]) -> torch.Tensor:
    columns = [np.broadcast_to(c, shape).ravel() for c in coordinates]
    if not columns or not prod(shape):
        return torch.zeros(shape, dtype=torch.int64)
    _, inverse = np.unique(np.stack(columns), axis=1, return_inverse=True)
    return torch.from_numpy(inverse.reshape(shape).astype(np.int64))


def _with_copies(units: Units, x: Layout) -> list[Ids]:
    """Coordinates that number the entries which a layout holds to be equal, one by one."""
    coordinates = list(x.coordinates)
    joined = nx.Graph()
    for c in x.coordinates:
        nx.add_path(joined, varies_on(c))
    for axes in nx.connected_components(joined):
        shape = tuple(n if d in axes else 1 for d, n in enumerate(x.shape))
        inside = [c for c in x.coordinates if set(varies_on(c)) & axes]
        numbers = _numbered(shape, inside).flatten().numpy()
        order = np.argsort(numbers, kind="stable")
        _, first, counts = np.unique(numbers[order], return_index=True, return_counts=True)
        copy = np.empty_like(numbers)
        copy[order] = np.arange(len(order)) - np.repeat(first, counts)
        if copy.any():
            coordinates.append(units.positions(-2, int(copy.max()) + 1)[copy].reshape(shape))
    return coordinates


# is it sound?


def _worst(claim: _Claim, draws: Sequence[_Draw], generator: torch.Generator) -> tuple[float, str]:
    """The largest error, and in words where it came from if that is too much."""
    error = 0.0
    for draw in draws:
        for name, result in draw.results.items():
            if _spread(result, claim.ids[name]) > TOLERANCE:
                return float("inf"), f"it says that entries of {name} are equal which are not"
    for block, permutation in _elements(claim.symmetry, generator):
        for draw in draws:
            moved = _after(claim, permutation, draw.everything)
            found = draw.example.run(moved)
            for name, result in found.items():
                error = max(error, _difference(result, moved[name]))
                if not error <= TOLERANCE:
                    axes = claim.symmetry.blocks[block].axes if block else ()
                    what = _listed([f"{n}[{a}]" for n, a in axes]) or "all blocks"
                    what += " together" if len(axes) != 1 else ""
                    return error, f"moving {what} changes {name} by {error:.1e} (relative)"
    return error, ""


def _after(claim: _Claim, permutation: Permutation, tensors: Tensors) -> dict[str, torch.Tensor]:
    """Arguments and results where the permutation takes them; numbers of units follow these."""
    places = {_order(n): torch.arange(prod(s)).reshape(s) for n, s in claim.orders.items()}
    moved = permutation.apply({**tensors, **places})
    for name in claim.orders:
        new_place = moved.pop(_order(name)).flatten().argsort()
        moved[name] = new_place[moved[name]]
    return moved


def _spread(tensor: torch.Tensor, ids: torch.Tensor) -> float:
    """The largest difference between entries with the same number."""
    _, first, inverse = np.unique(ids.numpy(), return_index=True, return_inverse=True)
    return _difference(tensor.flatten(), tensor.flatten()[first][inverse.ravel()])


def _elements(symmetry: Symmetry, generator: torch.Generator) -> Iterator[tuple[str, Permutation]]:
    """Generators of the group, each with the block that it moves, and two random elements.

    A swap and a cycle generate all permutations of one set. Of a nested block it is enough to
    move one set, since its parents' permutations take it to all others.
    """
    for block in symmetry:
        for source in _generators(block.size):
            indices = dict(symmetry.identity().indices)
            indices[block.name] = indices[block.name].copy()
            indices[block.name][0] = source
            yield block.name, Permutation(symmetry, indices)
    for _ in range(2):
        yield "", symmetry.sample(generator)


def _generators(n: int) -> list[Ids]:
    """A swap and a cycle."""
    places = np.arange(n, dtype=np.int64)
    swap = places.copy()
    swap[:2] = swap[1::-1]
    return [swap, np.roll(places, 1)][: max(n - 1, 0)]


# is it complete?


@dataclass(frozen=True)
class _Piece:
    """The part of an axis that is permuted: ``of`` things of an axis of ``size``."""

    tensor: str
    axis: int
    size: int
    of: int
    form: str
    """``whole``, ``blocks`` (as they are), ``inside`` (all blocks alike), ``first`` (block)."""

    def source(self, permutation: Ids) -> Ids:
        rest = self.size // self.of
        if self.form == "blocks":
            return (permutation[:, None] * rest + np.arange(rest)).ravel()
        if self.form == "inside":
            return (np.arange(rest)[:, None] * self.of + permutation).ravel()
        return np.concatenate([permutation, np.arange(self.of, self.size)])

    def __str__(self) -> str:
        rest = self.size // self.of
        return {
            "blocks": f"the {self.of} blocks of ",
            "inside": f"the {self.of} places inside all {rest} blocks of ",
            "first": f"the first {self.of} places of ",
        }.get(self.form, "") + f"{self.tensor}[{self.axis}]"


Pieces = frozenset[_Piece]


def _lost(claims: Sequence[_Claim], draws: Sequence[_Draw]) -> tuple[str, ...]:
    """What the op allows and the rule does not, whether the other arguments adopt or not.

    A result that is the same everywhere and always, as of ``isnan``, tells nothing; nor do
    numbers of units, as of ``argsort``.
    """
    values = {n: torch.cat([d.results[n].flatten() for d in draws]) for n in draws[0].results}
    telling = [
        name
        for name, v in values.items()
        if name not in claims[0].orders and _difference(v, v[:1].expand_as(v)) > TOLERANCE
    ]
    if not telling:
        return ()
    lost: dict[str, None] = {}
    for pieces in _commuting(draws, telling):
        for claim in claims[:2]:
            if not _allows(claim, pieces, [*draws[0].tensors, *telling]):
                lost[_in_words(pieces, claim.symmetry)] = None
                break
    return tuple(lost)


def _commuting(draws: Sequence[_Draw], results: Sequence[str]) -> list[Pieces]:
    """The least sets of pieces that can be permuted together, as the op says."""
    tested = [_Commutation(draw, results) for draw in draws]
    shapes = {name: tuple(t.shape) for name, t in draws[0].everything.items()}
    axes = [
        (name, axis, n)
        for name, shape in shapes.items()
        if name in {*draws[0].tensors, *results}
        for axis, n in enumerate(shape)
        if n > 1
    ]
    found: list[Pieces] = []
    sizes = {k for _, _, n in axes for k in range(2, n + 1) if n % k == 0}
    for k in sorted(sizes, reverse=True):
        for pieces in _candidates(axes, k):
            known = any(_implies(other, pieces) for other in found)
            if not known and all(test.holds(pieces) for test in tested):
                found.append(pieces)
    return found


def _candidates(axes: Sequence[tuple[str, int, int]], k: int) -> list[Pieces]:
    """Sets of pieces that hold ``k`` things each, at most one piece per axis; smallest first."""
    choices: list[list[_Piece | None]] = []
    for name, axis, n in axes:
        if n % k == 0:
            forms = ["whole"] if n == k else ["blocks", "inside", "first"]
            choices.append([None, *(_Piece(name, axis, n, k, form) for form in forms)])
    every = (frozenset(p for p in chosen if p) for chosen in product(*choices))
    return sorted((pieces for pieces in every if pieces), key=len)[:SUBSETS]


def _implies(known: Pieces, pieces: Pieces) -> bool:
    """Does it follow from what is known, or does the rest of it?"""
    if known <= pieces:
        return True
    if any(p.form != "whole" for p in known):
        return False
    axes = {(p.tensor, p.axis, p.size) for p in known}
    for form in ("blocks", "inside", "first"):
        if axes <= {(p.tensor, p.axis, p.size) for p in pieces if p.form == form}:
            return True
    return False


def _moved(tensors: Tensors, pieces: Pieces, permutation: Ids) -> dict[str, torch.Tensor]:
    moved = dict(tensors)
    for piece in pieces:
        source = piece.source(permutation)
        moved[piece.tensor] = take(moved[piece.tensor], (piece.axis,), source)
    return moved


@dataclass(frozen=True)
class _Commutation:
    """Asks the op which permutations it commutes with, running it once per moved arguments."""

    draw: _Draw
    results: Sequence[str]
    runs: dict[tuple[Pieces, int], Tensors | None] = field(default_factory=dict)

    def holds(self, pieces: Pieces) -> bool:
        here = frozenset(p for p in pieces if p.tensor in self.draw.tensors)
        for k, permutation in enumerate(_generators(next(iter(pieces)).of)):
            if (here, k) not in self.runs:
                self.runs[here, k] = self._run(_moved(self.draw.tensors, here, permutation))
            found = self.runs[here, k]
            expected = _moved(self.draw.results, pieces - here, permutation)
            if found is None or any(
                _difference(found[name], expected[name]) > TOLERANCE for name in self.results
            ):
                return False
        return True

    def _run(self, tensors: Tensors) -> Tensors | None:
        try:
            return self.draw.example.run(tensors)
        except RuntimeError:
            return None


def _allows(claim: _Claim, pieces: Pieces, names: Sequence[str]) -> bool:
    """Does the group hold every permutation of the pieces?"""
    for permutation in _generators(next(iter(pieces)).of):
        ids = {name: claim.ids[name] for name in names}
        expected = _moved(ids, pieces, permutation)
        element = _element(claim.symmetry, pieces, permutation, names)
        if element is None:
            return False
        moved = element.apply(ids)
        if not all(torch.equal(moved[name], expected[name]) for name in names):
            return False
    return True


def _element(
    symmetry: Symmetry, pieces: Pieces, permutation: Ids, names: Sequence[str]
) -> Permutation | None:
    """The only element of the group that can move the pieces like that, if there is one."""
    indices = {name: index.copy() for name, index in symmetry.identity().indices.items()}
    for parameter in (p for p in symmetry.parameters if p.name in names):
        inside = [p for p in pieces if p.tensor == parameter.name]
        for group in parameter.groups:
            shape = [n if a in group.axes else 1 for a, n in enumerate(parameter.shape)]
            source = torch.arange(prod(shape)).reshape(shape)
            here = frozenset(p for p in inside if p.axis in group.axes)
            source = _moved({parameter.name: source}, here, permutation)[parameter.name]
            if not _read_off(symmetry, group, source.flatten().numpy(), indices):
                return None
    try:
        return Permutation(symmetry, indices)
    except InvalidArgumentError:
        return None


def _read_off(symmetry: Symmetry, group: AxisGroup, source: Ids, indices: dict[str, Ids]) -> bool:
    """Fill in what the blocks have to do for every entry to come from its source."""
    for segment in group.segments:
        positions = segment.positions
        entry = np.full(len(source), -1, dtype=np.int64)
        entry[positions.ravel()] = np.arange(positions.size)
        taken = entry[source[positions]]
        if (taken < 0).any():
            return False
        places = np.unravel_index(taken, positions.shape)
        rows: list[Ids] = []
        for d, name in enumerate(segment.blocks):
            size = symmetry.blocks[name].size
            above = segment.parents[d]
            row = rows[above] if above >= 0 else np.zeros((1,) * positions.ndim, dtype=np.int64)
            place = np.arange(size).reshape([-1 if k == d else 1 for k in range(positions.ndim)])
            rows.append(row * size + place)
            where = np.broadcast_arrays(row, place, positions)[:2]
            indices[name][tuple(where)] = places[d]
    return True


def _in_words(pieces: Pieces, symmetry: Symmetry) -> str:
    order = {name: k for k, name in enumerate(p.name for p in symmetry.parameters)}
    ranked = sorted(pieces, key=lambda p: (order[p.tensor], p.axis))
    own = {(p.tensor, p.axis) for p in pieces}
    blocks = [block for block in symmetry if own & set(block.axes)]
    others = dict.fromkeys(f"{n}[{a}]" for b in blocks for n, a in b.axes if (n, a) not in own)
    how, them = ("together", "them") if len(pieces) > 1 else ("alone", "it")
    verdict = f"ties {them} to {_listed(list(others))}" if others else f"splits {them}"
    if not blocks:
        verdict = f"pins {them}"
    what = _listed([str(p) for p in ranked])
    return f"{what} can be permuted {how}, but the rule {verdict}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
