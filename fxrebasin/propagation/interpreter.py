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
from typing import Any

import networkx as nx
import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from ..errors import InvalidInputError
from ..layouts.adoption import resolve
from ..layouts.causes import PinKind
from ..layouts.coordinates import positional
from ..layouts.facts import Facts
from ..layouts.grouped_axes import Groups, find_groups
from ..layouts.layout import Layout, Parameter
from ..layouts.primitives import pin_units
from ..layouts.units import Units
from ..layouts.unread import complete_unread
from ..models.inputs import in_placeholder_order
from ..models.interpreter import Interpreter
from ..models.outputs import output_tensors
from ..models.running import clone_tensors, unobserved
from ..rules.registry import RuleBook
from ..tracing.eager import EagerModule
from .constraints import Constraint, impose
from .dispatch import LayoutMode
from .eager import run_eagerly
from .recording import Recording, source_line
from .stored import Stored, find_stored, make_parameters
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

    Raises:
        InvalidInputError: the module does not run on the example inputs.
    """
    groups: Groups = {}
    while True:
        stored = find_stored(names)
        units = Units()
        found = Facts(units, make_parameters(stored, units, groups), nx.MultiGraph())
        _run(module, stored, found, Example(args, kwargs), rules, free_outputs)
        for example in more:
            _run(EagerModule(names), stored, found, example, rules, free_outputs)
        noted = find_groups(found.units, found.parameters)
        if not any(noted[name].keys() - groups.get(name, {}).keys() for name in noted):
            break
        groups = {name: noted.get(name, {}) | groups.get(name, {}) for name in noted | groups}
    complete_unread(found.units, found.parameters, found.reading)
    impose(constraints, found)
    return found


def _run(
    module: fx.GraphModule | EagerModule,
    stored: Sequence[Stored],
    found: Facts,
    example: Example,
    rules: RuleBook | None,
    free_outputs: bool | Container[int],
) -> None:
    """Run a model on one example; what that finds is added to what is known."""
    units, is_first = found.units, not found.runs
    found.runs += 1
    mode = LayoutMode(found, stored, rules)
    recording = Recording(mode)
    with ExitStack() as stack:
        stack.enter_context(unobserved(module))
        if _is_recurrent(module):
            stack.enter_context(_without_fused_recurrence())
        if example.training:
            stack.enter_context(as_in_training(module))
        inputs = clone_tensors((tuple(example.args), dict(example.kwargs)))
        for tensor in tree_leaves(inputs):
            if isinstance(tensor, torch.Tensor):
                shape = tuple(tensor.shape)
                mode.tensors.put(tensor, Layout(shape, tuple(positional(units, shape))))
        stack.callback(mode.writes.undo)
        if isinstance(module, EagerModule):
            value = run_eagerly(module, recording, *inputs)
        else:
            ordered = in_placeholder_order(module, *inputs)
            stack.enter_context(mode)
            value = _Propagator(module, recording).run(*ordered, enable_io_processing=False)
        with recording.record("output") as record:
            outputs = output_tensors(value)
            for tensor in outputs:
                record.named_operand(tensor)
            if outputs and all(t.numel() == 0 for t in outputs):
                raise InvalidInputError(
                    "the model's outputs have no entries on the example inputs, so that every "
                    "permutation keeps them; give a batch of at least one example"
                )
            _pin_outputs(mode, outputs, free=free_outputs, described=is_first)


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
