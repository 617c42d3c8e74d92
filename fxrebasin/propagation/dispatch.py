"""A dispatch mode that applies the rule of every ATen op to the layouts of its operands.

It sees what modules, functions and methods do alike, keeps the layouts of all tensors, and undoes
what the model's forward writes into its own parameters and buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from ..errors import FxrebasinError, RuleError
from ..layouts.adoption import resolve
from ..layouts.causes import PinKind
from ..layouts.coordinates import positional
from ..layouts.facts import Facts
from ..layouts.layout import Layout, Parameter
from ..layouts.primitives import pin
from ..models.outputs import output_tensors
from ..rules.call import Call, Rule
from ..rules.ordering import READ, IndexRule
from ..rules.registry import RuleBook
from ..rules.table import CHECKS, CONSTANTS
from .constraint_graph import AxisUnits, axes_of
from .effects import reads_values, tensors_written, tensors_written_silently, without_out
from .storages import Storages
from .stored import Stored


class Watcher(Protocol):
    """Is told before and after every op that acts on layouts."""

    def before(self, op: str) -> None: ...

    def after(self, operands: list[torch.Tensor], results: list[torch.Tensor]) -> None: ...


def labelled(name: str, value: Any) -> list[tuple[str, torch.Tensor]]:
    """The tensors in a node's value; where there are several, each has a name of its own."""
    tensors = [t for t in tree_leaves(value) if isinstance(t, torch.Tensor)]
    if len(tensors) == 1:
        return [(name, tensors[0])]
    return [(f"{name}[{k}]", t) for k, t in enumerate(tensors)]


class LayoutMode(TorchDispatchMode):
    """Applies the rule of every ATen op to the layouts of its operands."""

    def __init__(self, found: Facts, tensors: list[Stored], rules: RuleBook | None = None) -> None:
        super().__init__()
        self.found = found
        self.rules = rules or RuleBook()
        self.watcher: Watcher | None = None
        self.names: Any = WeakIdKeyDictionary()
        """From tensors to the names that they have in the constraint graph."""
        self.met: set[str] = set()
        """The parameters that an op has met already."""
        self._inside_leaf = False
        self.stores_nothing = any(s.tensor.numel() == 0 for s in tensors)
        self.storages = Storages(found.units)
        self.buffers = Storages(found.units)
        self.touched: dict[str, Parameter] = {}
        self.overwritten: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.stored: dict[int, list[torch.Tensor]] = {}
        for stored, parameter in zip(tensors, found.parameters, strict=True):
            if stored.is_buffer:  # batch norm writes to its statistics without saying so
                self._keep(stored.tensor)
            moves = not stored.is_buffer or stored.is_statistic
            (self.storages if moves else self.buffers).put(stored.tensor, parameter.layout())
            key = stored.tensor.untyped_storage()._cdata
            self.stored.setdefault(key, []).append(stored.tensor)

    def restore(self) -> None:
        """Undo what the model's forward wrote into its own parameters and buffers."""
        for tensor, value in self.overwritten.values():
            tensor.copy_(value)

    def _before_write(self, written: torch.Tensor) -> None:
        for tensor in self.stored.get(written.untyped_storage()._cdata, ()):
            self._keep(tensor)

    def _keep(self, tensor: torch.Tensor) -> None:
        if id(tensor) not in self.overwritten:
            self.overwritten[id(tensor)] = (tensor.detach(), tensor.detach().clone())

    def layouts(self, name: str, value: Any) -> list[tuple[str, Layout]]:
        """The tensors of a node's value, each with a name of its own."""
        found = [(label, self.storages.get(t)) for label, t in labelled(name, value)]
        return [(label, x) for label, x in found if x is not None and x.parameter is None]

    def axes(self, name: str, value: Any) -> list[AxisUnits]:
        found = self.layouts(name, value)
        return [axis for label, x in found for axis in axes_of(label, x, self.found.units)]

    def pin_outputs(self, value: Any, *, free: bool | Container[int]) -> None:
        """Outputs stay as they are; of those that are free, how they move is found out instead."""
        for k, tensor in enumerate(output_tensors(value)):
            layout = self.storages.get(tensor)
            if layout is None:
                layout = Layout(tuple(tensor.shape))
            self._touch([layout])
            if free if isinstance(free, bool) else k in free:
                x = resolve(self.found.units, layout)
                output = Parameter((f"output {k}",), x.shape, True, ())
                output.coordinates = list(x.coordinates)
                self.found.outputs.append(output)
            else:
                text = "is an output of the model"
                pin(self.found.units, layout, text, kind=PinKind.OUTPUT)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        written = tensors_written(func, args, kwargs)
        for tensor in [*written, *tensors_written_silently(func, args)]:
            self._before_write(tensor)
        if (
            self._inside_leaf
            or func.overloadpacket in CONSTANTS | CHECKS
            or all(self.storages.get(t) is None for t in operands)
        ):
            out = func(*args, **kwargs)
            for t in [*operands, *tree_leaves(out)]:
                if isinstance(t, torch.Tensor):
                    self.storages.see(t)
            return out
        if self.watcher is not None:
            self.watcher.before(str(func))
        if torch.Tag.dynamic_output_shape in func.tags:
            self.found.shapes_read = True
        if reads_values(func._schema):
            self.found.values_read[self.found.units.site] = None
        layout_args, layout_kwargs = tree_map_only(
            torch.Tensor, self.layout_of, (args, without_out(func, kwargs))
        )
        before = [self._root_before(tensor) for tensor in written]
        out = func(*args, **kwargs)
        results = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        shapes = tuple(tuple(t.shape) for t in results)
        call = Call(self.found.units, str(func), shapes, schema=func._schema)
        layouts = self._apply(call, self.rules.of_op(func), layout_args, layout_kwargs)
        held = {id(tensor): old for tensor, old in zip(written, before, strict=True)}
        for tensor, layout in zip(results, layouts, strict=True):
            if id(tensor) in held:
                self._write(tensor, held.pop(id(tensor)), layout, str(func))
            else:
                self.storages.put(tensor, layout)
        for tensor in written:
            if id(tensor) in held:
                self._write_unknown(tensor, held[id(tensor)], layout_args, layout_kwargs, str(func))
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
        operands = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        if self.watcher is not None:
            self.watcher.before(name)
        self._inside_leaf = True
        try:
            out = function(*args, **kwargs)
        finally:
            self._inside_leaf = False
        if all(self.storages.get(t) is None for t in [*operands, *owned.values()]):
            return out
        results = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        parameters = {n: self.layout_of(t).as_parameter() for n, t in owned.items()}
        shapes = tuple(tuple(t.shape) for t in results)
        call = Call(self.found.units, name, shapes, parameters)
        given = tree_map_only(torch.Tensor, self.layout_of, (args, dict(kwargs)))
        self._touch(list(parameters.values()))
        for tensor, layout in zip(results, self._apply(call, rule, *given), strict=True):
            self.storages.put(tensor, layout)
        if self.watcher is not None:
            self.watcher.after(operands, results)
        return out

    def _write(self, written: torch.Tensor, before: Layout, layout: Layout, op: str) -> None:
        units = self.found.units
        if not self.storages.write(written, layout, before):
            for x in (before, layout):
                text = f"{op} writes where it cannot be followed"
                pin(units, x, text, kind=PinKind.UNFOLLOWED, op=op)
            root = self.storages.root(written)
            whole = tuple(root.shape)
            self.storages.put(root, Layout(whole, tuple(positional(units, whole))))
        else:
            self._pin_unused(written, before)

    def _write_unknown(
        self, written: torch.Tensor, before: Layout, args: Any, kwargs: Any, op: str
    ) -> None:
        """What an op writes to a tensor that it does not return."""
        units, shape = self.found.units, tuple(written.shape)
        for x in tree_leaves((args, kwargs)):
            if isinstance(x, Layout):
                text = f"{op} writes what it makes of it to another tensor"
                pin(units, x, text, kind=PinKind.UNFOLLOWED, op=op)
        self._write(written, before, Layout(shape, tuple(positional(units, shape))), op)

    def _pin_unused(self, written: torch.Tensor, before: Layout) -> None:
        """Entries of a parameter's copy that are overwritten mean nothing; they stay in place."""
        provisional = {int(ids[0]) for p in self.touched.values() for ids in p.positions}
        overwritten = [
            ids for c in before.coordinates if int((ids := np.unique(c))[0]) in provisional
        ]
        if not overwritten and written.untyped_storage()._cdata not in self.stored:
            return
        units = self.found.units
        now = self.storages.get(self.storages.root(written))
        coordinates = () if now is None else now.coordinates
        left = np.concatenate(
            [np.empty(0, np.int64), *(units.find(c).ravel() for c in coordinates)]
        )
        for ids in overwritten:
            gone = ids[~np.isin(units.find(ids), left)]
            units.pin(gone, "is overwritten before it is used", PinKind.UNUSED)

    def _apply(self, call: Call, rule: Rule | None, args: Any, kwargs: Any) -> list[Layout]:
        operands = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Layout)]
        self._touch(operands, rule)
        if rule is None or not (call.shapes or reads_values(call.schema)):
            if call.shapes:
                self.found.unknown_ops[call.op] += 1
            for x in operands:
                text = f"{call.op} is not understood"
                pin(self.found.units, x, text, kind=PinKind.UNKNOWN_OP, op=call.op)
            return list(call.pinned())
        if self._runs_on_nothing(call, operands):
            for x in operands:
                text = "meets a tensor that is empty on the example inputs"
                pin(self.found.units, x, text, kind=PinKind.EMPTY, op=call.op)
            return list(call.pinned())
        try:
            found = rule(call, *args, **kwargs)
        except FxrebasinError:
            raise
        except Exception as error:
            given = ", ".join(str(x.shape) for x in operands)
            raise RuleError(
                f"the rule of {call.op} failed on tensors of shapes {given}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return call.results(found)

    def _runs_on_nothing(self, call: Call, operands: list[Layout]) -> bool:
        """Does an op compute with a tensor that is empty, but need not be for other inputs?

        What it would do with entries is then not seen. Where the model stores empty tensors and
        no shape depends on values, other inputs make no difference.
        """
        if self.stores_nothing and not self.found.shapes_read:
            return False
        if call.schema is not None:
            is_view = any(result.alias_info is not None for result in call.schema.returns)
            if is_view or call.schema.name == "aten::cat":
                return False
        nothing = call.shapes != () and all(0 in shape for shape in call.shapes)
        return nothing or any(0 in x.shape for x in operands)

    def _touch(self, operands: list[Layout], rule: Rule | None = None) -> None:
        for x in operands:
            parameter = x.parameter or x.buffer
            if parameter is not None:
                self.touched[parameter.name] = parameter
            if x.order_of is not None and not isinstance(rule, IndexRule):
                pin(self.found.units, x.order_of, READ)

    def _root_before(self, written: torch.Tensor) -> Layout:
        """What the storage holds before it is written to, in the shape it was first seen in."""
        return resolve(self.found.units, self.layout_of(self.storages.root(written)))

    def layout_of(self, tensor: torch.Tensor) -> Layout:
        """The layout of a tensor; a constant's positions are told apart where its values differ.

        Those of a buffer that may hold other values in another state dict always are.
        """
        known = self.storages.get(tensor)
        if known is not None:
            return known
        shape = tuple(tensor.shape)
        buffer = self.buffers.get(tensor)
        if tensor.numel() == 0:
            return Layout(shape, value=tensor)
        weights = buffer is not None and tensor.is_floating_point()
        dims = tuple(
            d for d, n in enumerate(shape) if n > 1 and (weights or not _is_uniform(tensor, d))
        )
        coordinates = positional(self.found.units, shape, dims)
        return Layout(
            shape, tuple(coordinates), value=tensor, buffer=buffer.parameter if buffer else None
        )


def _is_uniform(tensor: torch.Tensor, dim: int) -> bool:
    if tensor.stride(dim) == 0:
        return True
    first = tensor.narrow(dim, 0, 1)
    return bool((tensor == first).all()) or bool(
        tensor.is_floating_point() and torch.isnan(tensor).all()
    )
