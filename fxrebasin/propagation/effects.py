"""What an op writes to and whether it reads values, as its schema says and where it does not."""

from __future__ import annotations

from typing import Any

import torch

UNDECLARED = {
    torch.ops.aten.cudnn_batch_norm.default: (3, 4),
    torch.ops.aten.miopen_batch_norm.default: (3, 4),
    torch.ops.aten.native_batch_norm.default: (3, 4),
}
"""Arguments that an op writes to though its schema does not say so."""

STATISTICS = {torch.ops.aten._fused_moving_avg_obs_fq_helper.default: (3, 4, 5, 6)}
"""Arguments that an op writes statistics of units to: to the rule they belong to these units."""

NOISY_IN_TRAINING = (torch.ops.aten.rrelu_with_noise, torch.ops.aten.rrelu_with_noise_)
"""Ops that write their argument ``noise`` only where ``training`` is true."""


def reads_values(schema: torch.FunctionSchema | None) -> bool:
    """Does an op give Python numbers instead of tensors, as ``item`` and ``torch.equal`` do?"""
    if schema is None or schema.is_mutable or not schema.returns:
        return False
    return not any("Tensor" in str(result.type) for result in schema.returns)


def tensors_written(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The tensors that an op says it writes to: those in place, or its ``out``."""
    schema = func._schema.arguments
    given = {a.name: kwargs.get(a.name, args[k] if k < len(args) else None)
             for k, a in enumerate(schema)}  # fmt: skip
    written = {a.name for a in schema if a.alias_info is not None and a.alias_info.is_write}
    if func.overloadpacket in NOISY_IN_TRAINING and not given["training"]:
        written.remove("noise")
    written -= {schema[k].name for k in STATISTICS.get(func, ())}
    return [x for name, x in given.items() if name in written and isinstance(x, torch.Tensor)]


def tensors_written_silently(func: Any, args: Any) -> list[torch.Tensor]:
    places = (*UNDECLARED.get(func, ()), *STATISTICS.get(func, ()))
    found = [args[k] for k in places if k < len(args)]
    return [value for value in found if isinstance(value, torch.Tensor)]


def without_out(func: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments without ``out``: what an op overwrites is not one of its operands."""
    outs = {argument.name for argument in func._schema.arguments if argument.is_out}
    return {name: value for name, value in kwargs.items() if name not in outs}
