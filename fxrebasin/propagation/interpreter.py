"""Run a model on units instead of numbers.

Its graph, or where there is none the model itself, is executed on the example inputs under a
dispatch mode that sees every ATen op inside, whether it came from a module, a function or a
method, and applies the op's rule to the layouts of its operands. The numbers are computed as well:
they give shapes, and tell constants that are uniform along an axis from those that are not.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import networkx as nx
import torch
from torch import fx, nn

from ..errors import InvalidInputError
from ..layouts.adoption import resolve
from ..layouts.causes import PinKind
from ..layouts.facts import Facts
from ..layouts.grouped_axes import Groups, find_groups
from ..layouts.layout import Layout, Parameter
from ..layouts.primitives import pin_units
from ..layouts.units import Units
from ..layouts.unread import complete_unread
from ..models.copying import attributes
from ..models.inputs import in_placeholder_order
from ..models.interpreter import Interpreter
from ..models.outputs import output_tensors, require_tensors
from ..models.reachable import reachable_tensors
from ..models.running import clone_tensors, unobserved
from ..models.state import changes, is_equal, state_of
from ..rules.registry import RuleBook
from ..tracing.eager import EagerModule
from .constraints import Constraint, impose
from .dispatch import LayoutMode
from .eager import run_eagerly
from .movable import Movable, find_movable
from .reads import Reads
from .recording import Recording, source_line
from .shared_memory import complete_shared, find_shared
from .stored import Stored, find_loaded, find_stored, make_parameters
from .training import as_in_training


@dataclass(frozen=True)
class Example:
    """Inputs to run a model on, in eval mode or as in training."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    training: bool = False


def propagate(
    module: fx.GraphModule | EagerModule,
    names: nn.Module,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    *,
    rules: RuleBook | None = None,
    constraints: Sequence[Constraint] = (),
    free_outputs: bool | Container[int] = False,
    more: Sequence[Example] = (),
    movable: Movable = (),
) -> Facts:
    """Propagate units through a model.

    Args:
        module: the traced graph; it shares its parameters with ``names``.
        names: the module whose parameter and buffer names are used.
        args, kwargs: example inputs.
        rules: of the user's own, besides the built-in ones.
        constraints: axes that the user wants pinned or tied.
        free_outputs: may the units of the model's outputs move? Or those of which of them?
        more: other inputs; what is found holds for all.
        movable: the buffers of ``names`` that move like parameters.

    Raises:
        InvalidInputError: the module does not run on the example inputs.
        InvalidArgumentError: there is no such buffer to move, or no such axis to pin or tie.
    """
    asked = find_movable(names, movable)
    groups: Groups = {}
    while True:
        stored = find_stored(names, asked)
        units = Units()
        found = Facts(units, make_parameters(stored, units, groups), nx.MultiGraph())
        _run(module, names, stored, found, Example(args, kwargs), rules, free_outputs)
        for example in more:
            _run(EagerModule(names), names, stored, found, example, rules, free_outputs)
        noted = find_groups(found.units, found.parameters)
        if not any(noted[name].keys() - groups.get(name, {}).keys() for name in noted):
            break
        groups = {name: noted.get(name, {}) | groups.get(name, {}) for name in noted | groups}
    complete_unread(found.units, found.parameters, found.reading)
    complete_shared(found, list(find_shared(stored, found.parameters).values()))
    impose(constraints, found)
    return found


def _run(
    module: fx.GraphModule | EagerModule,
    names: nn.Module,
    stored: Sequence[Stored],
    found: Facts,
    example: Example,
    rules: RuleBook | None,
    free_outputs: bool | Container[int],
) -> None:
    """Run a model on one example; what that finds is added to what is known."""
    is_first = not found.runs
    found.runs += 1
    if isinstance(module, EagerModule):
        module = module.anew()  # without what an earlier run has left on it
    mode = LayoutMode(found, stored, rules, _find_state(module, names))
    recording = Recording(mode)
    with ExitStack() as stack:
        stack.enter_context(unobserved(module))
        if _is_recurrent(module):
            stack.enter_context(_without_fused_recurrence())
        if example.training:
            stack.enter_context(as_in_training(module))
        inputs, given = _place_inputs(mode, example.args, example.kwargs)
        stack.callback(mode.writes.undo)
        stack.enter_context(Reads(mode))
        if isinstance(module, EagerModule):
            before = state_of(module.model, buffers=False)
            value = run_eagerly(module, recording, *inputs)
            # what a model keeps may be used by the next call only: two calls are looked at
            if changes(before, state_of(module.model, buffers=False)):
                if free_outputs is False:
                    _pin_tensors(mode, output_tensors(value), "is an output of the model")
                _pin_tensors(mode, _find_kept(mode, module), KEPT)
                inputs, given = _place_inputs(mode, example.args, example.kwargs)
                value = run_eagerly(module, recording, *inputs)
        else:
            ordered = in_placeholder_order(module, *inputs)
            stack.enter_context(mode)
            value = _Propagator(module, recording).run(*ordered, enable_io_processing=False)
        with recording.record("output") as record:
            outputs = output_tensors(value)
            written = _find_written(mode, inputs, given)
            kept = _find_kept(mode, module) if isinstance(module, EagerModule) else []
            require_tensors([*outputs, *written], names, value)
            leaving = [*outputs, *written, *kept]
            for tensor in leaving:
                record.named_operand(tensor)
            mode.log.read([(t, x) for t in leaving if (x := mode.tensors.get(t)) is not None])
            if outputs and all(t.numel() == 0 for t in outputs):
                raise InvalidInputError(
                    "the model's outputs have no entries on the example inputs, so that every "
                    "permutation keeps them; give a batch of at least one example"
                )
            _pin_outputs(mode, outputs, free=free_outputs, described=is_first)
            _pin_tensors(mode, written, "is written into an argument of the model")
            _pin_tensors(mode, kept, KEPT)


def _find_state(module: fx.GraphModule | EagerModule, names: nn.Module) -> list[torch.Tensor]:
    """The constants of a run that a state dict fills; in a graph they are known by their values."""
    if isinstance(module, EagerModule):
        return find_loaded(module.model)
    loaded = find_loaded(names)
    if not loaded:
        return []
    kept = reachable_tensors([attributes(m) for m in module.modules()])
    return [t for t in [*module.buffers(), *kept] if any(map(partial(is_equal, t), loaded))]


Given = list[tuple[torch.Tensor, Layout | None]]
"""Tensors among the arguments, and their layouts before forward ran."""


def _place_inputs(
    mode: LayoutMode, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Any, Given]:
    """Copies of the example inputs, whose entries are told apart by where they are."""
    inputs = clone_tensors((tuple(args), dict(kwargs)))
    for tensor in reachable_tensors(inputs):
        mode.tensors.put_input(tensor)
    return inputs, [(t, mode.tensors.get(t)) for t in reachable_tensors(inputs)]


KEPT = "is kept on the model, where its user finds it"


def _find_written(mode: LayoutMode, inputs: Any, given: Given) -> list[torch.Tensor]:
    """The tensors that can be reached from the arguments and were not given with them."""
    known = {id(tensor): layout for tensor, layout in given}
    return [t for t in reachable_tensors(inputs) if mode.tensors.get(t) is not known.get(id(t))]


def _find_kept(mode: LayoutMode, module: EagerModule) -> list[torch.Tensor]:
    """What forward has left on its modules. What it has computed from weights alone, to have it at
    the next call, is no result."""
    found = []
    for one in module.model.modules():
        own = [*one.parameters(recurse=False), *one.buffers(recurse=False)]
        stored = {id(t) for t in own if mode.writes.is_stored(t)}
        kept = reachable_tensors([attributes(one), *own], strict=False)
        found += [t for t in kept if id(t) not in stored and mode.tensors.is_from_inputs(t)]
    return [t for t in found if mode.tensors.get(t) is not None]


def _pin_tensors(mode: LayoutMode, tensors: Sequence[torch.Tensor], text: str) -> None:
    for tensor in tensors:
        layout = mode.tensors.get(tensor)
        if layout is not None:
            mode.touch([layout])
            pin_units(mode.facts.units, layout, text, kind=PinKind.OUTPUT)


def _pin_outputs(
    mode: LayoutMode,
    outputs: Sequence[torch.Tensor],
    *,
    free: bool | Container[int],
    described: bool,
) -> None:
    """Outputs stay as they are; of those that are free, how they move is found out instead, and
    described for the first example."""
    for k, tensor in enumerate(outputs):
        layout = mode.tensors.get(tensor)
        if layout is None:
            layout = Layout(tuple(tensor.shape))
        mode.touch([layout])
        if free if isinstance(free, bool) else k in free:
            x = resolve(mode.facts.units, layout)
            if not described:
                continue
            output = Parameter((f"output {k}",), x.shape, True, ())
            output.coordinates = list(x.coordinates)
            mode.facts.outputs.append(output)
        else:
            text = "is an output of the model"
            pin_units(mode.facts.units, layout, text, kind=PinKind.OUTPUT)


RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
"""The ops that recurrent layers are exported as."""


def _is_recurrent(module: nn.Module) -> bool:
    if any(isinstance(m, nn.RNNBase) for m in module.modules()):
        return True
    nodes = module.graph.nodes if isinstance(module, fx.GraphModule) else ()
    packets = (getattr(node.target, "overloadpacket", None) for node in nodes)
    return any(getattr(packet, "__name__", "") in RECURRENT for packet in packets)


@contextmanager
def _without_fused_recurrence() -> Iterator[None]:
    """Have recurrent layers run step by step, through ops that have rules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of an unrelated setting that it restores
        flags = torch.backends.mkldnn.flags(enabled=False)
        flags.__enter__()
    cudnn = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = cudnn
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flags.__exit__(None, None, None)


class _Propagator(Interpreter):
    """Tells the dispatch mode which node runs, and records the constraint graph."""

    def __init__(self, module: fx.GraphModule, recording: Recording) -> None:
        super().__init__(module)
        self.recording = recording
        self.mode = recording.mode
        self.node = ""

    def run_node(self, n: fx.Node) -> Any:
        self.node = n.name
        if n.stack_trace:
            self.mode.facts.sources[n.name] = source_line(n.stack_trace)
        with self.recording.record(n.name) as record:
            for source in n.all_input_nodes:
                record.operand(source.name, self.env.get(source))
            value = super().run_node(n)
            if n.op != "output":
                record.result(n.name, value)
        return value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if isinstance(target, torch._ops.HigherOrderOperator):
            return _run_region(target, args)
        rule = self.mode.rules.of_function(target)
        if rule is None:
            return super().call_function(target, args, kwargs)
        return self.mode.leaf(self.node, rule, target, args, kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        rule = self.mode.rules.of_method(target)
        if rule is None:
            return super().call_method(target, args, kwargs)
        return self.mode.leaf(self.node, rule, getattr(torch.Tensor, target), args, kwargs)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.fetch_attr(target)
        rule = self.mode.rules.of_module(module)
        if rule is None:
            return super().call_module(target, args, kwargs)
        return self.mode.leaf(self.node, rule, module, args, kwargs, module)


def _run_region(operator: torch._ops.HigherOrderOperator, args: Any) -> Any:
    """A region of an exported graph in which gradients or autocast are set otherwise."""
    name = operator.name()
    if name == "wrap_with_set_grad_enabled":
        enabled, region, *rest = args
        return region(*rest)
    if name == "wrap_with_autocast":
        device, dtype, enabled, cache, region, *rest = args
        with torch.autocast(device, dtype, enabled, cache):
            return region(*rest)
    return operator(*args)
