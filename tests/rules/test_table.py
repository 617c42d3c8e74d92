"""Every rule against its op: sound, and no symmetry lost that is not on record."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from rule_samples import SAMPLES, Sample
from torch._ops import OpOverloadPacket

from fxrebasin.layouts.coordinates import along
from fxrebasin.layouts.layout import Layout
from fxrebasin.layouts.units import Units
from fxrebasin.rules import table
from fxrebasin.rules.call import Call
from fxrebasin.rules.registry import find_rule
from fxrebasin.rules.table import OTHER_LIBRARIES, RULES, UNTAGGED_POINTWISE
from fxrebasin.testing.check import check_rule

aten = torch.ops.aten


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_rule_allows_what_its_op_does_and_nothing_else(sample: Sample) -> None:
    rule = RULES[sample.op] if sample.stand_in else None
    check = check_rule(sample.stand_in or sample.op, *sample.args, rule=rule, **sample.kwargs)
    assert check.sound, str(check)
    assert check.lost == sample.lost, str(check)


KERNELS = {
    aten._scaled_dot_product_efficient_attention: ((1, 3, 32), (), ()),
    aten._scaled_dot_product_cudnn_attention: ((1, 3, 5, 1), (), (), (0,)),
    aten._scaled_dot_product_flash_attention: ((1, 3, 5), (2,), (), (0,)),
}
"""What kernels of attention return on accelerators, beside the result, for 3 heads of 5 queries."""


@pytest.mark.parametrize("op", KERNELS, ids=str)
def test_attention_has_a_layout_for_all_that_accelerators_return(op: OpOverloadPacket) -> None:
    units = Units()
    heads, features = units.fresh(3), units.fresh(4)
    coordinates = (along(heads, 1, 4), along(features, 3, 4))
    tensors = [Layout((1, 3, 5, 4), coordinates) for _ in "qkv"]
    call = Call(units, str(op), ((1, 3, 5, 4), *KERNELS[op]), schema=op.default._schema)
    rest = () if "flash" in str(op) else (None, True)
    result, *beside = call.results(RULES[op](call, *tensors, *rest))
    assert not units.is_pinned(np.concatenate([heads, features])).any()
    assert result.coordinates[0].shape == (1, 3, 1, 1)
    sums = beside[0].order_of or beside[0]
    named = np.concatenate([units.find(c).ravel() for c in sums.coordinates])
    assert np.isin(units.find(heads), named).all(), "who reads the sums must meet the heads"
    assert all(x.order_of is None for x in beside[1:])


SOURCE = Path(table.__file__).read_text()


def families() -> dict[str, list[str]]:
    """Per heading in the source of the table, the ops below it."""
    found: dict[str, list[str]] = {}
    ops: list[str] = []
    for line in SOURCE.partition("RULES: dict[Any, Rule] = {\n")[2].splitlines():
        if line == "}":
            break
        if heading := re.fullmatch(r"    # (.+)", line):
            assert heading[1] not in found, f"{heading[1]!r} is the heading of two families"
            ops = found[heading[1]] = []
        elif op := re.match(r"    aten\.(\w+): ", line):
            ops.append(op[1])
    return found


def test_the_table_is_in_alphabetical_order_within_each_family() -> None:
    found = families()
    assert sorted(op for ops in found.values() for op in ops) == sorted(
        str(op).removeprefix("aten.") for op in RULES
    )
    for heading, ops in found.items():
        assert ops == sorted(ops), heading


def test_the_other_lists_of_ops_are_in_alphabetical_order() -> None:
    lists = [
        [e.attr for e in node.elts if isinstance(e, ast.Attribute)]
        for node in ast.walk(ast.parse(SOURCE))
        if isinstance(node, ast.Tuple)
    ]
    assert len([ops for ops in lists if len(ops) > 2]) == 3
    assert all(ops == sorted(ops) for ops in lists)
    assert list(OTHER_LIBRARIES) == sorted(OTHER_LIBRARIES)


def test_every_rule_has_a_sample() -> None:
    sampled = {sample.op for sample in SAMPLES}
    assert [str(op) for op in RULES if op not in sampled] == []
    assert [str(op) for op in UNTAGGED_POINTWISE if op not in sampled] == []


def test_every_sample_has_a_rule() -> None:
    for sample in SAMPLES:
        overloads = (getattr(sample.op, name) for name in sample.op.overloads())
        assert any(find_rule(overload) is not None for overload in overloads), str(sample)


def test_symmetry_is_given_up_for_a_reason() -> None:
    assert all(bool(sample.lost) == bool(sample.reason) for sample in SAMPLES)


def tagged_pointwise() -> Iterator[torch._ops.OpOverload]:
    """Every overload that is held to be pointwise because torch says so."""
    for name in sorted(dir(aten)):
        packet = getattr(aten, name)
        if isinstance(packet, torch._ops.OpOverloadPacket) and packet not in RULES:
            for overload in packet.overloads():
                op = getattr(packet, overload)
                writes = any(a.is_out for a in op._schema.arguments)
                tagged = torch.Tag.pointwise in op.tags and find_rule(op) is not None
                if tagged and not writes and returns_tensors(op):
                    yield op


def returns_tensors(op: torch._ops.OpOverload) -> bool:
    return all("Tensor" in str(result.type) for result in op._schema.returns)


def example_arguments(op: torch._ops.OpOverload) -> list[object] | None:
    """Arguments that broadcast, up to the first that has a default."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 5), (5,), (3, 1)]
    made: list[object] = []
    for argument in op._schema.arguments:
        kind = str(argument.type)
        if argument.has_default_value():
            break
        if kind in ("Tensor", "Optional[Tensor]"):
            values = torch.rand(shapes[len(made) % 3], generator=generator, dtype=torch.float64)
            made.append(values * 0.8 + 0.1)
        elif kind in ("number", "float"):
            made.append(0.7)
        elif kind in ("int", "bool"):
            made.append(1)
        else:
            return None
    return made


NOT_ON_FLOATS = "bitwise", "shift", "xor", "gcd", "lcm", "masked_fill", "where", "clamp", "clip"
IMMEASURABLE = {aten.nextafter, aten.nextafter_}
"""They change a number by less than rounding does."""


@pytest.mark.slow
def test_the_ops_that_torch_calls_pointwise_are() -> None:
    checked = 0
    for op in tagged_pointwise():
        arguments = example_arguments(op)
        named = str(op).removeprefix("aten.")
        if arguments is None or any(word in named for word in NOT_ON_FLOATS):
            continue
        if op.overloadpacket in IMMEASURABLE:
            continue
        try:
            op(*(a.clone() if isinstance(a, torch.Tensor) else a for a in arguments))
        except RuntimeError:
            continue
        check = check_rule(op, *arguments)
        assert check.sound and not check.lost, str(check)
        checked += 1
    assert checked > 200
