"""Calls with nonsense: every public function answers with an error of this library."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache, partial, update_wrapper
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fxrebasin as fr
from fxrebasin.errors import FxrebasinError, InvalidArgumentError
from fxrebasin.passes import (
    Absorb,
    Canonicalise,
    Compact,
    Falsify,
    Order,
    Propagate,
    Refine,
    Rewrite,
    Solve,
    Trace,
    Verify,
)

X = torch.zeros(2, 3)


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))


def linear(seed: int = 0) -> nn.Sequential:
    """One whose hidden units can be mixed."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))


@cache
def symmetry() -> fr.Symmetry:
    return fr.analyze(net(), (X,))


@cache
def another() -> fr.Symmetry:
    return fr.analyze(nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 2)), (X,))


@cache
def permutation() -> fr.Permutation:
    return fr.Permutation.random(symmetry(), torch.Generator().manual_seed(0))


@cache
def products() -> fr.InnerProducts:
    return fr.objectives.weights(symmetry(), net().state_dict(), net(1).state_dict())


@cache
def program() -> torch.export.ExportedProgram:
    return torch.export.export(net(), (X,))


NONSENSE: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "a str": lambda: "nonsense",
    "an int": lambda: -3,
    "a float": lambda: 0.5,
    "nan": lambda: float("nan"),
    "a bool": lambda: True,
    "an empty list": list,
    "a list": lambda: [1, "two", None],
    "a dict": lambda: {"a": 1},
    "bytes": lambda: b"bytes",
    "an array": lambda: np.zeros((2, 3)),
    "an array of objects": lambda: np.array([None, "a"], dtype=object),
    "a tensor": lambda: torch.randn(2, 3),
    "a sparse tensor": lambda: torch.eye(3).to_sparse(),
    "a meta tensor": lambda: torch.empty(2, 3, device="meta"),
    "a module": net,
    "a class": lambda: nn.Linear,
    "a state dict": lambda: net().state_dict(),
    "an optimizer's state dict": lambda: torch.optim.SGD(net().parameters()).state_dict(),
    "a dict of arrays": lambda: {k: v.numpy() for k, v in net().state_dict().items()},
    "a function": lambda: lambda *args, **kwargs: None,
    "a program": program,
    "a symmetry": symmetry,
    "another symmetry": another,
    "another permutation": lambda: fr.Permutation.identity(another()),
    "an object": object,
}

FISHERS = [{n: p.square() for n, p in net(k).state_dict().items()} for k in range(2)]
MERGE_METHODS: dict[Callable[..., fr.Merged], str] = {
    fr.merge_methods.mean: "",
    fr.merge_methods.to_reference: "",
    fr.merge_methods.sequential: "",
    fr.merge_methods.tree: "",
    fr.merge_methods.many: "max_sweeps in_turn",
    fr.merge_methods.cycle_consistent: "steps spread patience max_sweeps",
    update_wrapper(
        partial(fr.merge_methods.fisher_weighted, fisher=FISHERS), fr.merge_methods.fisher_weighted
    ): "fisher align",
}
"""And the names of options of their own."""

STATES: dict[str, Any] = {"state_dict": net().state_dict(), "to": net(1).state_dict()}
MODELS: dict[str, Any] = {"model_b": net(), "to": net(1), "args": (X,)}
QUIET = {"progress": False}
QUICK = {"front_ends": ["symbolic_trace"]}


def arrays() -> Any:
    return {k: v.numpy() for k, v in net().state_dict().items()}


def register_for_a_moment(target: Any, rule: Any, acts: Any = "linear") -> None:
    fr.register_rule(target, rule, acts=acts)
    fr.unregister_rule(target)


def calls(folder: Path) -> dict[str, tuple[Callable[..., Any], dict[str, Any], str]]:
    """A function, arguments with which it works, and the names of those that are tried."""
    s, p = symmetry(), permutation()
    fixed = {"objective": products(), **QUIET}
    coordinate = partial(lambda objective, **k: fr.solvers.coordinate_descent(objective, **k))
    wolfe = partial(lambda objective, **k: fr.solvers.frank_wolfe(objective, **k))
    search = "objective start seed callback progress"
    return {
        "analyze": (
            fr.analyze,
            {"model": net(), "args": (X,)},
            "model args kwargs rules constraints free_outputs check front_ends examples movable "
            "parameters",
        ),
        "match": (
            fr.match,
            {"symmetry": s, **STATES, **QUIET},
            "symmetry state_dict to objective solver group start seed callback device progress",
        ),
        "weight_matching": (
            fr.weight_matching,
            {"symmetry": s, **STATES, **QUIET},
            "symmetry state_dict to vector_weight group solver start seed callback device progress",
        ),
        "rebasin": (
            fr.rebasin,
            {**MODELS, **QUIET},
            "model_b to args kwargs symmetry objective solver group start seed callback inplace",
        ),
        "activation_matching": (
            fr.activation_matching,
            {**MODELS, **QUIET, "args": (torch.randn(8, 3),), "symmetry": s, **QUICK},
            "model_b to args kwargs symmetry rules constraints front_ends solver group seed "
            "callback",
        ),
        "merge": (
            fr.merge,
            {"models": [net(), net(1)], "args": (X,), "evaluate": lambda m: 0.0, **QUIET},
            "models args kwargs symmetry data weights method objective repair evaluate choose seed "
            "progress",
        ),
        "interpolate": (
            fr.interpolate,
            {"a": net(), "b": net(1), "evaluate": lambda m: 0.0, "steps": 2, **QUIET},
            "a b evaluate via curve steps loader batches at_point symmetry keep progress",
        ),
        "train_bezier": (
            fr.train_bezier,
            {
                "a": net(),
                "b": net(1),
                "data": [X],
                "steps": 1,
                **QUIET,
                "loss": lambda model, batch: sum(x.square().sum() for x in model.parameters()),
            },
            "a b loss data steps optimizer start seed progress",
        ),
        "choose_alignment": (
            fr.choose_alignment,
            {**MODELS, **QUIET, "evaluate": lambda m: 0.0, "groups": ["signed"]},
            "model_b to args kwargs evaluate symmetry groups loader seed progress",
        ),
        "refine": (
            fr.refine,
            {
                "aligned": linear(),
                "to": linear(1),
                "data": [X],
                "steps": 1,
                **QUIET,
                "loss": lambda model, batch: model(X).square().sum(),
                "symmetry": fr.analyze(linear(), (X,)),
            },
            "aligned data loss to symmetry steps learning_rate between seed callback progress",
        ),
        "Bezier": (fr.curves.Bezier, {"control": net()}, "control"),
        "loss_plane": (
            fr.loss_plane,
            {"a": net(), "b": net(1), "c": net(2), "steps": 2, "evaluate": lambda m: 0.0} | QUIET,
            "a b c evaluate steps margin loader batches at_point progress",
        ),
        "diagnose": (
            fr.diagnose,
            {"a": net(), "b": net(1), "aligned": p, **QUIET},
            "a b aligned data batches inputs objective device progress",
        ),
        "best": (fr.Path((0, 1), {"loss": (1, 2)}).best, {}, "metric mode"),
        "Path.from_json": (fr.Path.from_json, {"text": "{}"}, "text"),
        "Plane.from_json": (fr.Plane.from_json, {"text": "{}"}, "text"),
        "Diagnosis.from_json": (fr.Diagnosis.from_json, {"text": "{}"}, "text"),
        "recompute_batch_norm": (
            fr.recompute_batch_norm,
            {"model": nn.Sequential(nn.BatchNorm1d(3)), "loader": [torch.randn(4, 3)]},
            "model loader batches inplace",
        ),
        **{
            f"merge_methods.{method.__name__}": (
                partial(lambda symmetry, models, method=method, **k: method(symmetry, models, **k)),
                {"symmetry": s, "models": [*STATES.values()], **QUIET},
                f"symmetry models weights objective solver seed device progress {own}",
            )
            for method, own in MERGE_METHODS.items()
        },
        "fisher": (
            fr.fisher,
            {"model": net(), "data": [(torch.randn(4, 3), torch.tensor([0, 1, 1, 0]))], **QUIET},
            "model data loss labels batches inputs at_once seed progress",
        ),
        "open_checkpoint": (fr.open_checkpoint, {"path": folder / "none.pt"}, "path key"),
        "transport": (
            fr.transport,
            {"symmetry": s, "fine_tuned": STATES["to"], "base": STATES["state_dict"]}
            | {"to": STATES["to"], **QUIET},
            "symmetry fine_tuned base to permutation scale fan_in_fan_out objective solver group "
            "seed progress",
        ),
        "load": (fr.load, {"path": folder / "none.pt"}, "path key like"),
        "save": (
            fr.save,
            {"state_dict": STATES["to"], "path": folder / "a.safetensors"},
            "state_dict path form about",
        ),
        "repair": (
            fr.repair,
            {"model": net(2), "like": [net(), net(1)], "data": [torch.randn(8, 3)], **QUIET},
            "model like data weights method sequential batches inputs inplace progress",
        ),
        "repair_linear": (
            fr.repair_linear,
            {"layer": nn.Linear(3, 5), "like": [nn.Linear(3, 5)]},
            "layer like mean covariance weights method inplace",
        ),
        "calibrate_biases": (
            fr.calibrate_biases,
            {"model": net(2), "like": [net(), net(1)], "args": (X,)},
            "model like args kwargs weights inplace",
        ),
        "canonicalise": (
            fr.canonicalise,
            {"symmetry": s, "weights": STATES["to"]},
            "symmetry weights scales",
        ),
        "compact": (
            fr.compact,
            {"model": net(), "args": (X,)},
            "model args kwargs symmetry rules constraints front_ends",
        ),
        "order": (
            fr.order,
            {"model": net(), "args": (X,)},
            "model args kwargs key symmetry rules constraints front_ends",
        ),
        "verify": (
            fr.verify,
            {"original": net(), "rewritten": net(), "args": (X,)},
            "original rewritten args kwargs remade",
        ),
        "backend": (
            fr.backend,
            {"to": net(), "inner": "eager"},
            "to passes inner model symmetry objective solver seed",
        ),
        "report": (fr.backend.report, {"compiled": fr.backend(to=net())}, "compiled"),
        "pin": (fr.pin, {"name": "0.weight", "dim": 0}, "name dim"),
        "tie": (fr.tie, {"one": ("a", 0), "other": ("b", 0)}, "one other"),
        "Budget": (fr.Budget, {"rounds": 1}, "seconds rounds"),
        "unregister_rule": (fr.unregister_rule, {"target": 0}, "target"),
        "register_rule": (
            register_for_a_moment,
            {"target": torch.ops.aten.relu, "rule": "n -> n"},
            "target rule acts",
        ),
        "assign": (
            fr.assignment.assign,
            {"costs": torch.randn(1, 3, 3)},
            "costs warm engine certify name",
        ),
        "coordinate_descent": (coordinate, fixed, f"{search} max_sweeps order budget bound"),
        "frank_wolfe": (wolfe, fixed, f"{search} steps spread max_rounds"),
        "objectives.weights": (
            fr.objectives.weights,
            {"symmetry": s, "b": STATES["to"], "a": STATES["to"]},
            "symmetry b a device vector_weight",
        ),
        "objectives.activations": (
            fr.objectives.activations,
            {"symmetry": s, "model_b": net(), "model_a": net(1), "args": (X,)},
            "symmetry model_b model_a args kwargs rules constraints front_ends device group",
        ),
        "objectives.activations_of": (
            # what comes before the options is given by place
            lambda symmetry, b, a, **options: fr.objectives.activations_of(
                symmetry, b, a, **options
            ),
            {"symmetry": s, "b": STATES["to"], "a": STATES["to"], "model": net(), "args": (X,)},
            "symmetry b a model args kwargs device",
        ),
        "objectives.mixture": (
            lambda symmetry, b, a, **options: fr.objectives.mixture(symmetry, b, a, **options),
            {
                "symmetry": s,
                "b": STATES["to"],
                "a": STATES["to"],
                "of": [fr.objectives.weights],
                "shares": [1.0],
            },
            "symmetry b a of shares device",
        ),
        "objectives.mixed": (
            fr.objectives.mixed,
            {"parts": [products()], "shares": [1.0]},
            "parts shares",
        ),
        "InnerProducts": (
            fr.InnerProducts,
            {"symmetry": s, "terms": [], "name": "a"},
            "symmetry terms name group find_factors widest",
        ),
        "Permutation": (
            fr.Permutation,
            {"symmetry": s, "indices": p.indices},
            "symmetry indices",
        ),
        "Transform": (
            fr.Transform,
            {"symmetry": s, "indices": p.indices},
            "symmetry indices signs log_scales matrices",
        ),
        "a random transform": (
            fr.Transform.random,
            {"symmetry": s},
            "symmetry generator group scales",
        ),
        "move": (
            fr.Transform.identity(s).move,
            {"parameter": s.parameters[0], "tensor": STATES["to"]["0.weight"]},
            "parameter tensor",
        ),
        "a transform of a file": (fr.Transform.load, {"path": folder / "none"}, "path"),
        "identity": (fr.Permutation.identity, {"symmetry": s}, "symmetry"),
        "random": (fr.Permutation.random, {"symmetry": s}, "symmetry generator"),
        "apply": (p.apply, {"state_dict": STATES["to"]}, "state_dict"),
        "apply_to": (p.apply_to, {"model": net()}, "model"),
        "apply_": (p.apply_, {"model": net()}, "model"),
        "permute": (
            p.permute,
            {"parameter": s.parameters[0], "tensor": STATES["to"]["0.weight"]},
            "parameter tensor",
        ),
        "compose": (p.compose, {"first": p}, "first"),
        "flat": (p.flat, {"name": "0.weight[0]"}, "name"),
        "Permutation.load": (fr.Permutation.load, {"path": folder / "none"}, "path symmetry"),
        "explain": (s.explain, {"name": "0.weight", "dim": 0}, "name dim"),
        "children": (s.children, {"name": "0.weight[0]"}, "name"),
        "to_json": (s.to_json, {}, "indent"),
        "from_json": (fr.Symmetry.from_json, {"text": s.to_json()}, "text"),
        "save_html": (s.save_html, {"path": folder / "a.html"}, "title"),
        "Trace": (Trace, {"args": (X,)}, "args kwargs rules front_ends reference parameters"),
        "Propagate": (
            Propagate,
            {"args": (X,)},
            "args kwargs constraints free_outputs examples movable",
        ),
        "Falsify": (Falsify, {"args": (X,)}, "args kwargs seed"),
        "Absorb": (Absorb, {"args": (X,)}, "args kwargs to"),
        "Canonicalise": (Canonicalise, {"args": (X,)}, "args kwargs to scales"),
        "Solve": (
            Solve,
            {"to": net()},
            "to objective solver group start seed callback device progress",
        ),
        "Verify": (Verify, {"args": (X,)}, "args kwargs"),
        "Compact": (Compact, {"args": (X,)}, "args kwargs"),
        "Order": (Order, {}, "key"),
        **{
            f"run {type(step).__name__}": (step, {}, "graph_module")
            for step in (
                *(Trace(), Propagate(), Refine(), Falsify(), Rewrite(), Verify()),
                *(Compact(), Order(), Absorb(), Canonicalise()),
            )
        },
    }


NAMES = list(calls(Path()))


def test_every_public_function_is_in_the_table() -> None:
    functions = {name for name in fr.__all__ if inspect.isfunction(getattr(fr, name))}
    assert functions <= set(NAMES)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_nonsense_is_refused_with_an_error_of_this_library(name: str, tmp_path: Path) -> None:
    """What is accepted is not looked at here: a list of nothing may be a list of constraints."""
    function, right, tested = calls(tmp_path)[name]
    raw = []
    for argument in tested.split():
        for what, make in NONSENSE.items():
            given = make()
            try:
                function(**{**right, argument: given})
            except (FxrebasinError, OSError):
                pass
            except Exception as error:
                raw.append(f"{argument}={what}: {type(error).__name__}: {error}")
    assert not raw, "\n".join(raw)


TEXTS: dict[str, tuple[Callable[[], Any], str]] = {
    "a tensor for a tuple": (
        lambda: fr.analyze(net(), X),  # type: ignore[arg-type]
        "args: expected a tuple of example inputs, found a Tensor of shape (2, 3); give args=(x,)",
    ),
    "a number for a tuple": (
        lambda: fr.analyze(net(), 3),  # type: ignore[arg-type]
        "args: expected a tuple of example inputs, found 3; give args=(x,)",
    ),
    "inputs by name for a tuple": (
        lambda: fr.analyze(net(), {"input": X}),  # type: ignore[arg-type]
        "args: expected a tuple of example inputs, found a dict of 1; give inputs by name as "
        "kwargs=",
    ),
    "a name for a list of front ends": (
        lambda: fr.analyze(net(), (X,), front_ends="export"),  # type: ignore[arg-type]
        "front_ends: expected a list of names among 'symbolic_trace', 'export', 'eager', found "
        "'export'; give ['export']",
    ),
    "an unknown front end": (
        lambda: fr.analyze(net(), (X,), front_ends=["dynamo"]),  # type: ignore[list-item]
        "front_ends: expected names among 'symbolic_trace', 'export', 'eager', found 'dynamo'",
    ),
    "no axis": (
        lambda: fr.pin("0.weight", 0.5),  # type: ignore[arg-type]
        "dim: expected a whole number, found 0.5; give an int",
    ),
    "an example for a list of them": (
        lambda: fr.analyze(net(), examples=X),  # type: ignore[arg-type]
        "examples: expected a list of example inputs, found a Tensor of shape (2, 3); give "
        "examples=[(x,), (longer,)]",
    ),
    "a tensor for the name of a buffer": (
        lambda: fr.analyze(net(), (X,), movable=X),  # type: ignore[arg-type]
        "movable: expected a list of the name of a buffer, found a Tensor of shape (2, 3); give "
        "movable=['codebook']",
    ),
    "a name that no buffer has": (
        lambda: fr.analyze(nn.Sequential(*net(), nn.BatchNorm1d(2)), (X,), movable="codes"),
        "movable: expected buffers of the model that can move, which are '3.running_mean', "
        "'3.running_var', found 'codes'",
    ),
    "half a tie": (
        lambda: fr.tie("0.weight", ("1.weight", 0)),  # type: ignore[arg-type]
        "one: expected a name and a dim, as ('0.weight', 0), found '0.weight'",
    ),
    "a constraint that is not in a list": (
        lambda: fr.analyze(net(), (X,), constraints=fr.pin("0.weight", 0)),  # type: ignore[arg-type]
        "constraints: expected a list of a constraint, found a Pin; give "
        "[fr.pin('0.weight', 0)] or [fr.tie(('0.weight', 0), ('1.weight', 0))]",
    ),
    "a name for a constraint": (
        lambda: fr.analyze(net(), (X,), constraints=["0.weight"]),  # type: ignore[list-item]
        "constraints[0]: expected a constraint, found '0.weight'; give ",
    ),
    "text for seconds": (
        lambda: fr.Budget(seconds="60"),  # type: ignore[arg-type]
        "seconds: expected a number, found '60'; give a float",
    ),
    "a model for its symmetry": (
        lambda: fr.weight_matching(net(), **STATES),  # type: ignore[arg-type]
        "symmetry: expected a Symmetry, found a Sequential; give fr.analyze(model, args=(x,))",
    ),
    "a permutation for its symmetry": (
        lambda: fr.match(permutation(), **STATES),  # type: ignore[arg-type]
        "symmetry: expected a Symmetry, found a Permutation; give its .symmetry",
    ),
    "a number for a start": (
        lambda: fr.weight_matching(symmetry(), **STATES, start=3),  # type: ignore[arg-type]
        "start: expected a Permutation, a Transform or None, found 3; give the .permutation of "
        "what a solver returned",
    ),
    "a seed below nothing": (
        lambda: fr.weight_matching(symmetry(), **STATES, seed=-1),
        "seed: expected a whole number, at least 0, found -1",
    ),
    "no device": (
        lambda: fr.weight_matching(symmetry(), **STATES, device="gpu"),
        "device: expected a device, as 'cpu' or 'cuda', that torch has here, found 'gpu'; ",
    ),
    "text for a weight": (
        lambda: fr.weight_matching(symmetry(), **STATES, vector_weight="1"),  # type: ignore[arg-type]
        "vector_weight: expected a number, found '1'; give a float",
    ),
    "an order by name": (
        lambda: fr.solvers.coordinate_descent(products(), order="random"),  # type: ignore[arg-type]
        "order: expected a function, found 'random'; give one of fr.schedules, such as "
        "fr.schedules.random_order",
    ),
    "a number for a budget": (
        lambda: fr.solvers.coordinate_descent(products(), budget=60),  # type: ignore[arg-type]
        "budget: expected a Budget or None, found 60; give fr.Budget(seconds=60) or "
        "fr.Budget(rounds=8)",
    ),
    "half a sweep": (
        lambda: fr.solvers.coordinate_descent(products(), max_sweeps=0.5),  # type: ignore[arg-type]
        "max_sweeps: expected a whole number, at least 0, found 0.5; give an int",
    ),
    "a state dict for a model": (
        lambda: fr.rebasin(net().state_dict(), to=net(), args=(X,)),  # type: ignore[arg-type]
        "model_b: expected a torch.nn.Module, found an OrderedDict of 4; load the state dict into "
        "a model",
    ),
    "state dicts on a line": (
        lambda: fr.interpolate(net().state_dict(), net(), lambda m: 0.0),  # type: ignore[arg-type]
        "a: expected a torch.nn.Module, found an OrderedDict of 4; load the state dict into",
    ),
    "arrays for tensors": (
        lambda: permutation().apply({k: v.numpy() for k, v in STATES["to"].items()}),
        "state_dict['0.weight']: expected a tensor, found an array of shape (5, 3); give "
        "torch.from_numpy of it",
    ),
    "the names of DataParallel": (
        lambda: permutation().apply({f"module.{k}": v for k, v in STATES["to"].items()}),
        "state_dict: expected tensors of the names of the symmetry, as '0.weight', found "
        "'module.0.weight': the names begin with 'module.', which DataParallel or "
        "DistributedDataParallel put there; take it off, ",
    ),
    "the names of torch.compile": (
        lambda: fr.match(
            symmetry(),
            {f"_orig_mod.{k}": v for k, v in STATES["to"].items()},
            to=STATES["to"],
        ),
        "model B: expected tensors of the names of the symmetry, as '0.weight', found "
        "'_orig_mod.0.weight': the names begin with '_orig_mod.', which torch.compile put there; ",
    ),
    "the names of one compiled layer": (
        lambda: permutation().apply(
            {k.replace("0.", "0._orig_mod."): v for k, v in STATES["to"].items()}
        ),
        "state_dict: expected '0.weight', which the symmetry moves, found '0._orig_mod.weight', as "
        "torch.compile names it; give the state dict of the model that was analysed",
    ),
    "an exported program for a model": (
        lambda: fr.rebasin(program(), to=net(), args=(X,)),  # type: ignore[arg-type]
        "model_b: expected a torch.nn.Module, found an ExportedProgram; give the module that was "
        "exported, or program.module()",
    ),
    "arrays to align with": (
        lambda: fr.match(symmetry(), net().state_dict(), to=arrays()),
        "'0.weight' of model A: expected a tensor, found an array of shape (5, 3); give "
        "torch.from_numpy of it",
    ),
    "the state of an optimizer": (
        lambda: permutation().apply(torch.optim.SGD(net().parameters()).state_dict()),
        "state_dict: expected the state dict of a model, found that of an optimizer; give "
        "model.state_dict()",
    ),
    "a checkpoint": (
        lambda: permutation().apply({"epoch": 3, "model": STATES["to"]}),  # type: ignore[dict-item]
        "this is a checkpoint; give the state dict in it, as ['model']",
    ),
    "names of something else": (
        lambda: permutation().apply({"other": X}),
        "found 'other'; give the state dict of the model that was analysed",
    ),
    "a rule for one module": (
        lambda: fr.analyze(net(), (X,), rules={net()[0]: "... i -> ... i"}),
        "target: expected an op, a function, a method of torch.Tensor, or a type of module, found "
        "a Linear; give its type, Linear",
    ),
    "a rule of other operands": (
        lambda: fr.register_rule(torch.ops.aten.relu, "n c, c -> n c"),
        "expected a signature of 1 operands, the tensors that the op takes, found 2",
    ),
    "a rule of another parameter": (
        lambda: fr.analyze(net(), (X,), rules={nn.Linear: "... i, wieght: o i -> ... o"}),
        "asks for 'wieght', but the module stores ['bias', 'weight']",
    ),
    "a rule that returns nothing": (
        lambda: fr.analyze(net(), (X,), rules={nn.ReLU: NONSENSE["a function"]()}),
        "expected it to return a layout per result, found None; return what call.merge, ",
    ),
    "rules in a list": (
        lambda: fr.analyze(net(), (X,), rules=["n -> n"]),  # type: ignore[arg-type]
        "rules: expected a dict from ops, functions or types of modules to rules, found a list "
        "of 1; give rules={op: rule}",
    ),
    "costs in a list": (
        lambda: fr.assignment.assign([[[1.0]]]),  # type: ignore[arg-type]
        "costs: expected a tensor or an array of numpy, found a list of 1; give "
        "torch.as_tensor(costs)",
    ),
    "a name for a key": (
        lambda: fr.order(net(), (X,), key="norm"),  # type: ignore[arg-type]
        "key: expected a function, found 'norm'; give fr.UnitWeights.written_norm or None",
    ),
    "a key that gives nothing": (
        lambda: fr.order(net(), (X,), key=NONSENSE["a function"]()),
        "key: expected a function that returns 5 numbers for '0.weight[0]', found None; give one "
        "as fr.UnitWeights.written_norm",
    ),
    "a state dict to be cut": (
        lambda: fr.compact(net().state_dict(), (X,)),  # type: ignore[arg-type]
        "model: expected a torch.nn.Module, found an OrderedDict of 4; load the state dict into",
    ),
    "sparse costs": (
        lambda: fr.assignment.assign(torch.eye(3)[None].to_sparse()),
        "costs: expected a dense tensor, found a Tensor of shape (1, 3, 3) and layout "
        "torch.sparse_coo; call .to_dense() or .dequantize() on it",
    ),
    "a number for a path": (
        lambda: permutation().save(3),  # type: ignore[arg-type]
        "path: expected the name of a file, as a str or a Path, found 3",
    ),
}


@pytest.mark.parametrize("what", TEXTS)
def test_errors_name_the_argument_and_what_to_do(what: str) -> None:
    call, text = TEXTS[what]
    with pytest.raises(FxrebasinError, match=re.escape(text)):
        call()


def test_a_rule_may_name_a_parameter_that_is_none() -> None:
    model = nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 2))
    rules = {nn.Linear: "... i, weight: o i, bias: o -> ... o"}
    assert fr.analyze(model, (X,), rules=rules).movable_units == 5


def test_an_argument_that_is_missing_is_a_matter_of_python() -> None:
    with pytest.raises(TypeError, match="missing 1 required"):
        fr.match(symmetry(), STATES["to"])  # type: ignore[call-arg]
    with pytest.raises(InvalidArgumentError, match="indent: expected a whole number"):
        symmetry().to_json(indent="2")  # type: ignore[arg-type]
