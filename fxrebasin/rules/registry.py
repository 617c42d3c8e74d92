"""Where rules are looked up: those of the user's own, and then the built-in ones.

A rule can be given for an op, a Python function, a method of ``torch.Tensor`` or a type of module.
:func:`register_rule` keeps it for the whole process; ``rules={...}`` of one call does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard, TypeVar

import torch
from torch import nn
from torch._library.custom_ops import CustomOpDef

from ..arguments import refuse
from ..errors import InvalidArgumentError
from ..signature.apply import parse
from .acts import CLAIMS, PERMUTES, ClaimedRule
from .call import Rule, of_module_signature, of_signature, tensor_arguments
from .pointwise import each, keep_each, merge
from .table import COLLECTIVES, OTHER_LIBRARIES, RULES, UNTAGGED_POINTWISE

Target = Any
"""An op, a ``torch.library`` custom op, a function, a method of ``torch.Tensor``, a module type."""

F = TypeVar("F", bound=Callable[..., Any])

_registered: dict[Target, Rule] = {}


def register_rule(target: Target, rule: str | Rule | None = None, *, acts: str = PERMUTES) -> Any:
    """Say what an op, function, method or type of module does to units.

    As a signature, whose operands are the tensor arguments in order:

    >>> import torch, fxrebasin as fr
    >>> def scaled(x, scale):
    ...     return x * scale
    >>> fr.register_rule(scaled, "... c, c -> ... c")

    or as a function that takes a ``Call`` and the target's own arguments, with tensors replaced by
    layouts, and composes ``call.merge``, ``call.reduce``, ``call.move`` and ``call.pin``:

    >>> @fr.register_rule(scaled)
    ... def rule_of_scaled(call, x, scale):
    ...     return call.merge(x, scale)
    >>> fr.unregister_rule(scaled)

    In the rule of a module type, operands with a name are parameters of the module,
    ``"... i, weight: o i, bias: o -> ... o"``, as is ``call.parameter("weight")``.

    A rule comes before the built-in one. It is believed: ``fxrebasin.testing.check_rule`` tells
    whether it is right.

    Of permutations alone a rule speaks, unless ``acts`` says that the target commutes with more
    than these: with what acts alike on all axes that a letter of the signature names, and leaves
    results as they are that have no such axis.

    >>> from fxrebasin.testing import check_rule
    >>> fr.register_rule(torch.ops.aten.cumsum, "_ ... -> _ ...", acts="linear")
    >>> print(check_rule(torch.ops.aten.cumsum, torch.randn(3, 4), 0))  # doctest: +ELLIPSIS
    aten.cumsum.default: sound (error ...), nothing lost
    >>> fr.unregister_rule(torch.ops.aten.cumsum)

    Args:
        target: the op, function, method or type of module.
        rule: a signature or a function; without one, a decorator for such a function is returned.
        acts: ``"permutations"``; ``"signed"``: also with changes of sign, as tanh;
            ``"positive"``: with scales above zero, as ReLU; ``"monomial"``: with scales of both
            signs; ``"linear"``: with every matrix, as a sum over time.

    Raises:
        InvalidArgumentError: the target is not something that can have a rule, or ``acts`` is none
            of these.
        SignatureError: the signature cannot be read.
    """
    key = key_of(target)
    check_claim(acts)
    if rule is None:

        def register(function: F) -> F:
            _registered[key] = _claiming(as_rule(target, function), acts)
            return function

        return register
    _registered[key] = _claiming(as_rule(target, rule), acts)
    return None


def _claiming(rule: Rule, acts: str) -> Rule:
    return rule if acts == PERMUTES else ClaimedRule(rule, acts)


def check_claim(given: object, name: str = "acts") -> None:
    """Refuse what is no claim.

    Raises:
        InvalidArgumentError: naming those there are.
    """
    if not isinstance(given, str) or given not in CLAIMS:
        refuse(name, f"one of {', '.join(map(repr, CLAIMS))}", given)


def unregister_rule(target: Target) -> None:
    """Forget a registered rule; a built-in one holds again.

    Raises:
        InvalidArgumentError: no rule was registered for the target.
    """
    if _registered.pop(key_of(target), None) is None:
        raise InvalidArgumentError(f"no rule was registered for {target!r}")


def key_of(target: Target) -> Target:
    """What a target is known by; overloads of one op share a key, unless one is named."""
    if isinstance(target, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return target
    if isinstance(target, CustomOpDef):
        return target._opoverload.overloadpacket
    if inspect.isclass(target):
        if is_module_type(target) and target is not nn.Module:
            return target
    elif isinstance(target, nn.Module):
        expected = "an op, a function, a method of torch.Tensor, or a type of module"
        refuse("target", expected, target, f"give its type, {type(target).__name__}")
    elif callable(target):
        name = getattr(target, "__name__", "")
        is_method = name and getattr(torch.Tensor, name, None) is target
        return method_key(name) if is_method else target
    raise InvalidArgumentError(
        f"{target!r} cannot have a rule; expected an op (torch.ops.name.space, or a "
        "torch.library.custom_op), a function, a method of torch.Tensor, or a type of module"
    )


def is_module_type(target: Target) -> TypeGuard[type[nn.Module]]:
    return inspect.isclass(target) and issubclass(target, nn.Module)


def method_key(name: str) -> tuple[str, str]:
    return ("method", name)


def as_rule(target: Target, rule: str | Rule) -> Rule:
    if not isinstance(rule, str):
        if not callable(rule):
            raise InvalidArgumentError(
                f"the rule of {target!r} should be a signature or a function, not {rule!r}"
            )
        return rule
    _check_operands(target, len(parse(rule).operands))
    return of_module_signature(rule) if inspect.isclass(target) else of_signature(rule)


def _check_operands(target: Target, found: int) -> None:
    """Refuse a signature of an op that takes another number of tensors.

    Raises:
        InvalidArgumentError: naming both.
    """
    if isinstance(target, CustomOpDef):
        target = target._opoverload
    if isinstance(target, torch._ops.OpOverloadPacket):
        schemas = [getattr(target, name)._schema for name in target.overloads()]
    else:
        schemas = [target._schema] if isinstance(target, torch._ops.OpOverload) else []
    if any("Tensor[]" in str(a.type) for schema in schemas for a in schema.arguments):
        return
    counts = sorted({len(tensor_arguments(schema)) for schema in schemas})
    if counts and found not in counts:
        raise InvalidArgumentError(
            f"the rule of {target}: expected a signature of {' or '.join(map(str, counts))} "
            f"operands, the tensors that the op takes, found {found}"
        )


def find_rule(op: torch._ops.OpOverload) -> Rule | None:
    """The built-in rule of an op, or of the op that it is the in-place variant of."""
    packet = op.overloadpacket
    name = packet.__name__
    if packet not in RULES and name.endswith("_") and not name.endswith("__"):
        packet = getattr(getattr(torch.ops, op.namespace), name[:-1], packet)
    if packet not in RULES and name.endswith("_copy"):  # a view, and then a copy of it
        packet = getattr(getattr(torch.ops, op.namespace), name.removesuffix("_copy"), packet)
    if packet in RULES:
        return RULES[packet]
    if packet._qualified_op_name in OTHER_LIBRARIES:
        return OTHER_LIBRARIES[packet._qualified_op_name]
    if packet._qualified_op_name in COLLECTIVES:
        return keep_each
    if packet in UNTAGGED_POINTWISE or _is_pointwise(op, packet):
        return merge
    return _find_rule_of_lists(packet.__name__)


def _find_rule_of_lists(name: str) -> Rule | None:
    """The rule of ``_foreach_mul`` is that of ``mul``, place by place of the lists."""
    single = getattr(torch.ops.aten, name.removeprefix("_foreach_"), None)
    if not name.startswith("_foreach_") or single is None:
        return None
    rule = find_rule(getattr(single, single.overloads()[0]))
    return None if rule is None else each(rule)


def _is_pointwise(op: torch._ops.OpOverload, packet: torch._ops.OpOverloadPacket) -> bool:
    functional = getattr(packet, op._overloadname, op)
    return torch.Tag.pointwise in op.tags or torch.Tag.pointwise in functional.tags


@dataclass(frozen=True)
class RuleBook:
    """All rules of one analysis: those of the call, then the registered ones, then the table."""

    own: Mapping[Target, Rule] = field(default_factory=dict)
    _of_op: dict[torch._ops.OpOverload, Rule | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """The rules of the ops that were looked up so far."""

    def of_op(self, op: torch._ops.OpOverload) -> Rule | None:
        if op not in self._of_op:
            own = self.own.get(op) or self.own.get(op.overloadpacket)
            self._of_op[op] = own or find_rule(op)
        return self._of_op[op]

    def is_built_in(self, rule: Rule) -> bool:
        return all(rule is not own for own in self.own.values())

    def of_function(self, function: Callable[..., Any]) -> Rule | None:
        return self.own.get(function) if self.own else None

    def of_method(self, name: str) -> Rule | None:
        return self.own.get(method_key(name))

    def of_module(self, module: nn.Module) -> Rule | None:
        found = (self.own.get(kind) for kind in type(module).__mro__)
        return next((rule for rule in found if rule is not None), None)

    @property
    def modules(self) -> tuple[type[nn.Module], ...]:
        return tuple(key for key in self.own if is_module_type(key))

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        ops = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)
        return tuple(
            key
            for key in self.own
            if not isinstance(key, (*ops, tuple)) and not inspect.isclass(key)
        )

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(key[1] for key in self.own if isinstance(key, tuple))


def rule_book(rules: Mapping[Target, str | Rule] | None = None) -> RuleBook:
    """The rules that hold in one call.

    Raises:
        InvalidArgumentError: a target is not something that can have a rule.
        SignatureError: a signature cannot be read.
    """
    if rules is not None and not isinstance(rules, Mapping):
        expected = "a dict from ops, functions or types of modules to rules"
        refuse("rules", expected, rules, "give rules={op: rule}")
    given = {key_of(target): as_rule(target, rule) for target, rule in (rules or {}).items()}
    return RuleBook({**_registered, **given})
