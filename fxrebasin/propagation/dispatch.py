"""A dispatch mode that applies the rule of every ATen op to the layouts of its operands.

It sees what modules, functions and methods do alike. Layouts are kept in ``tensors.py``; ops that
work in place are followed in ``writes.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch._higher_order_ops.scan import generic_scan
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from ..errors import FxrebasinError, InvalidInputError, RuleError
from ..layouts.causes import PinKind
from ..layouts.facts import Facts
from ..layouts.layout import Layout, Parameter
from ..layouts.primitives import pin_units
from ..rules.acts import PERMUTES, claim_of, name_of
from ..rules.call import Call, Rule, absent_names
from ..rules.ordering import READ, IndexRule
from ..rules.registry import RuleBook
from ..rules.table import CHECKS, CONSTANTS
from .choosing import find_unfed, only_chooses
from .effects import reads_values, tensors_written, tensors_written_silently, without_out
from .event_log import EventLog
from .origins import with_origin
from .stored import Stored
from .tensors import Tensors
from .writes import Writes


class Watcher(Protocol):
    """Is told before and after every op that acts on layouts."""

    def before(self, op: str) -> None: ...

    def after(self, operands: list[torch.Tensor], results: list[torch.Tensor]) -> None: ...


class LayoutMode(TorchDispatchMode):
    """Applies the rule of every ATen op to the layouts of its operands."""

    supports_higher_order_operators = True

    def __init__(
        self,
        facts: Facts,
        stored: Sequence[Stored],
        rules: RuleBook | None = None,
        state: Sequence[torch.Tensor] = (),
    ) -> None:
        super().__init__()
        self.facts = facts
        self.rules = rules or RuleBook()
        self.tensors = Tensors(facts, stored, state)
        self.writes = Writes(self.tensors, stored)
        self.log = EventLog(facts, stored)
        self.watcher: Watcher | None = None
        self.touched: dict[str, Parameter] = {}
        """The parameters that were met since this was last emptied."""
        self._parts_of: Any = WeakTensorKeyDictionary()
        """What empty tensors were taken from."""
        self._computed: Any = WeakTensorKeyDictionary()
        """The empty tensors that hold what was computed with others."""
        self._inside_leaf = False
        self._stores_nothing = any(one.tensor.numel() == 0 for one in stored)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, torch._ops.HigherOrderOperator):
            return self._look_inside(func, args, kwargs)
        operands = _tensors_in((args, kwargs))
        written = tensors_written(func, args, kwargs)
        for tensor in [*written, *tensors_written_silently(func, args)]:
            self.writes.keep_values(tensor)
        if (
            self._inside_leaf
            or func.overloadpacket in CONSTANTS | CHECKS
            or all(self.tensors.get(t) is None for t in operands)
        ):
            out = func(*args, **kwargs)
            for tensor in [*operands, *_tensors_in(out)]:
                self.tensors.storages.see(tensor)
            made = [*_tensors_in(out), *written]
            self.tensors.derive(made, operands, constants=func.overloadpacket not in CONSTANTS)
            return out
        if self.watcher is not None:
            self.watcher.before(str(func))
        self._note_effects(func)
        self._note_buffers(operands)
        arguments = (args, without_out(func, kwargs))
        given = self._as_layouts(arguments)
        values = self.log.operands(_tensors_in(arguments), _layouts_in(given))
        before = {id(tensor): self.tensors.whole_of(tensor) for tensor in written}
        out = func(*args, **kwargs)
        results = _tensors_in(out)
        self.tensors.derive([*results, *written], operands)
        call = self._call(str(func), results, schema=func._schema)
        rule = self.rules.of_op(func)
        if rule is None and func.overloadpacket in STRIDED:
            layouts = [self._see_strided(args, kwargs)]
        else:
            layouts = self._apply(call, rule, *given)
        if rule is not None and self.rules.is_built_in(rule):
            layouts = with_origin(func, rule, given, layouts)
        self._follow_empty(call, operands, results, layouts)
        self._note_reading(func, given, layouts)
        pairs = list(zip(results, layouts, strict=True))
        name, claim = self._name_for_log(func)
        self.log.record(name, given, values, pairs, written, claim=claim)
        touched = self.touched.values()
        for tensor, layout in zip(results, layouts, strict=True):
            if id(tensor) in before:
                self.writes.follow(tensor, before.pop(id(tensor)), layout, call.op, touched)
            else:
                self.tensors.put(tensor, layout)
        for tensor in written:
            if id(tensor) in before:
                held, met = before[id(tensor)], _layouts_in(given)
                self.writes.follow_unknown(tensor, held, met, call.op, touched)
        if self.watcher is not None:
            self.watcher.after(operands, results)
        return out

    def leaf(
        self,
        name: str,
        rule: Rule,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any,
        module: nn.Module | None = None,
    ) -> Any:
        """Call something that has a rule of its own, without looking at the ops inside."""
        owned = dict([*module.named_parameters(), *module.named_buffers()]) if module else {}
        absent = absent_names(module) if module else frozenset[str]()
        operands = _tensors_in((args, kwargs))
        if self.watcher is not None:
            self.watcher.before(name)
        self._inside_leaf = True
        try:
            out = function(*args, **kwargs)
        finally:
            self._inside_leaf = False
        if all(self.tensors.get(t) is None for t in [*operands, *owned.values()]):
            self.tensors.derive(_tensors_in(out), [*operands, *owned.values()])
            return out
        results = _tensors_in(out)
        self._note_buffers(operands)
        self.tensors.derive(results, [*operands, *owned.values()])
        parameters = {n: self.tensors.layout_of(t).as_parameter() for n, t in owned.items()}
        call = self._call(name, results, parameters=parameters, absent=absent)
        given = self._as_layouts((args, dict(kwargs)))
        self.touch(list(parameters.values()))
        layouts = self._apply(call, rule, *given)
        met = (*_layouts_in(given), *parameters.values())
        self.facts.reading.read.append((met, tuple(layouts)))
        values = self.log.operands([*operands, *owned.values()], met)
        pairs, claim = list(zip(results, layouts, strict=True)), claim_of(rule)
        known = f"the rule of {name}" if claim != PERMUTES else ""
        self.log.record(known, given, values, pairs, claim=claim if known else "")
        for tensor, layout in zip(results, layouts, strict=True):
            self.tensors.put(tensor, layout)
        if self.watcher is not None:
            self.watcher.after(operands, results)
        return out

    def read(self, tensor: torch.Tensor, how: str) -> None:
        """Python is given the values of a tensor: what it does with them is not seen."""
        layout = self.tensors.get(tensor)
        if layout is not None:
            self.touch([layout])
            pin_units(self.facts.units, layout, f"its values are read by {how}")
            self.facts.values_read[self.facts.units.site] = None
            self.facts.reading.read.append(((layout,), ()))

    def touch(self, operands: Sequence[Layout], rule: Rule | None = None) -> None:
        """Remember which parameters an op meets. Where operands hold positions of units, as
        ``argsort`` gives, pin those units, unless the op's rule can handle that."""
        for x in operands:
            parameter = x.parameter or x.buffer
            if parameter is not None:
                self.touched[parameter.name] = parameter
                self.facts.touched.add(parameter.name)
            if x.order_of is not None and not isinstance(rule, IndexRule):
                pin_units(self.facts.units, x.order_of, READ)

    def _look_inside(self, operator: Any, args: Any, kwargs: Any) -> Any:
        """An operator that takes functions, as ``torch.cond``: what they do is followed."""
        kernel = OPERATORS_OF_FUNCTIONS.get(operator.name()) or operator.py_kernels.get(
            torch._C.DispatchKey.CompositeExplicitAutograd
        )
        if kernel is None:
            raise InvalidInputError(
                f"{operator.name()} takes functions, and what they do cannot be followed; give it "
                "a rule with rules={...}, or write it with ordinary ops"
            )
        with self:
            return kernel(*args, **kwargs)

    def _see_strided(self, args: Any, kwargs: Any) -> Layout:
        """Strides go through memory, where entries are known by their place, not by their axes."""
        with torch.no_grad():
            view = torch.as_strided(*args, **kwargs)
        whole = self.tensors.whole_of(view)
        self.touch([self.tensors.layout_of(args[0])])
        return self.tensors.storages.look_through(view, whole)

    def _note_reading(self, func: Any, given: Any, results: Sequence[Layout]) -> None:
        reading, operands = self.facts.reading, tuple(_layouts_in(given))
        if only_chooses(func) and operands:
            reading.chosen.append((operands[0], tuple(results)))
        else:
            reading.read.append((operands, tuple(results)))
            reading.unfed += find_unfed(func, given[0])

    def _name_for_log(self, func: Any) -> tuple[str, str]:
        """What an op is known by when it is asked what it does, and what is claimed of it.

        A rule of the user's own says nothing of that without a claim, nor does one of what computes
        with no entries.
        """
        rule = self.rules.of_op(func)
        if rule is None or self.rules.is_built_in(rule):
            return (name_of(func) if rule is not None else ""), ""
        claim = claim_of(rule)
        return (f"the rule of {func}", claim) if claim != PERMUTES else ("", "")

    def _note_effects(self, func: Any) -> None:
        if torch.Tag.dynamic_output_shape in func.tags:
            self.facts.shapes_read = True
        if reads_values(func._schema):
            self.facts.values_read[self.facts.units.site] = None

    def _note_buffers(self, operands: Sequence[torch.Tensor]) -> None:
        names = self.tensors.buffers_in(operands)
        if names:
            self.facts.constant_buffers.setdefault(self.facts.units.site, set()).update(names)

    def _as_layouts(self, arguments: Any) -> Any:
        return tree_map_only(torch.Tensor, self.tensors.layout_of, arguments)

    def _call(self, op: str, results: Sequence[torch.Tensor], **more: Any) -> Call:
        return Call(self.facts.units, op, tuple(tuple(t.shape) for t in results), **more)

    def _apply(self, call: Call, rule: Rule | None, args: Any, kwargs: Any) -> list[Layout]:
        """The layouts of the results; where no rule says what they are, all operands are pinned."""
        operands = _layouts_in((args, kwargs))
        self.touch(operands, rule)
        if rule is None or not (call.shapes or reads_values(call.schema)):
            if call.shapes:
                self.facts.unknown_ops[call.op] += 1
            for x in operands:
                text = f"{call.op} is not understood"
                pin_units(self.facts.units, x, text, kind=PinKind.UNKNOWN_OP, op=call.op)
            return list(call.pinned())
        if self._runs_on_nothing(call, operands):
            for x in operands:
                text = "meets a tensor that is empty on the example inputs"
                pin_units(self.facts.units, x, text, kind=PinKind.EMPTY, op=call.op)
            return list(call.pinned())
        try:
            found = rule(call, *args, **kwargs)
        except FxrebasinError:
            raise
        except Exception as error:
            if self.rules.is_built_in(rule):
                self.facts.unknown_ops[call.op] += 1
                shapes = ", ".join(str(tuple(x.shape)) for x in operands)
                for x in operands:
                    text = f"the rule of {call.op} does not know the shapes {shapes}"
                    pin_units(self.facts.units, x, text, kind=PinKind.UNKNOWN_OP, op=call.op)
                return list(call.pinned())
            given = ", ".join(str(x.shape) for x in operands)
            raise RuleError(
                f"the rule of {call.op} failed on tensors of shapes {given}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return call.results(found)

    def _follow_empty(
        self,
        call: Call,
        operands: Sequence[torch.Tensor],
        results: Sequence[torch.Tensor],
        layouts: Sequence[Layout],
    ) -> None:
        """An empty tensor is a part of others that for other inputs may have entries: what is
        computed with it is computed with theirs, and what that is joined to holds its results."""
        if not self.facts.shapes_read or all(t.numel() for t in (*operands, *results)):
            return
        empty = [t for t in operands if t.numel() == 0]
        from_others = [x for t in empty for x in self._parts_of.get(t, ())]
        computes = self._runs_on_nothing(call, [self.tensors.layout_of(t) for t in operands])
        if computes or any(t in self._computed for t in empty):
            text = "meets a tensor that is empty on the example inputs"
            for x in [*from_others, *layouts]:
                pin_units(self.facts.units, x, text, kind=PinKind.EMPTY, op=call.op)
            for tensor in results:
                if tensor.numel() == 0:
                    self._computed[tensor] = True
        known = [x for t in operands if t.numel() and (x := self.tensors.get(t)) is not None]
        for tensor in results:
            if tensor.numel() == 0:
                self._parts_of[tensor] = (*known, *from_others)

    def _runs_on_nothing(self, call: Call, operands: list[Layout]) -> bool:
        """Does an op compute with a tensor that is empty, but need not be for other inputs?

        What it would do with entries is then not seen. Where the model stores empty tensors and
        no shape depends on values, other inputs make no difference.
        """
        if self._stores_nothing and not self.facts.shapes_read:
            return False
        if call.schema is not None:
            is_view = any(result.alias_info is not None for result in call.schema.returns)
            if is_view or call.schema.name == "aten::cat":
                return False
        nothing = call.shapes != () and all(0 in shape for shape in call.shapes)
        return nothing or any(0 in x.shape for x in operands)


STRIDED = frozenset(
    (torch.ops.aten.as_strided, torch.ops.aten.as_strided_, torch.ops.aten.as_strided_copy)
)
"""Ops that are given strides, which a rule does not see."""


def _choose(chooses: Any, one: Any, other: Any, operands: Any) -> Any:
    return (one if chooses else other)(*operands)


def _scan(combine: Any, first: Any, rows: Any, more: Any) -> Any:
    return generic_scan(combine, first, rows, additional_inputs=more)


OPERATORS_OF_FUNCTIONS: dict[str, Callable[..., Any]] = {"cond": _choose, "scan": _scan}
"""Those whose own code does not run under a dispatch mode."""


def _tensors_in(value: Any) -> list[torch.Tensor]:
    return [t for t in tree_leaves(value) if isinstance(t, torch.Tensor)]


def _layouts_in(value: Any) -> list[Layout]:
    return [x for x in tree_leaves(value) if isinstance(x, Layout)]
