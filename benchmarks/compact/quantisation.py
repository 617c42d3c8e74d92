"""What quantising weights in groups of neighbours loses, as units are and with units in order.

Weights are rounded to ``bits`` bits in groups of 32 along their input axis, each group with a scale
of its own, the largest of its entries. The order of the inputs decides which weights share a scale.
Linear layers whose inputs make whole groups are rounded by torchao, where it is installed; all
others likewise, here.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

import fxrebasin as fr
from benchmarks.compact.real_weights import Network

GROUP = 32
HAS_TORCHAO = importlib.util.find_spec("torchao") is not None
BITS = (8, 4)
KEYS = {"written_norm": fr.UnitWeights.written_norm, "read_norm": fr.UnitWeights.read_norm}


class Loss(NamedTuple):
    """The relative error of outputs, as units are and in order by each key."""

    network: str
    bits: int
    plain: float
    ordered: dict[str, float]


def quantised(weight: Tensor, bits: int) -> Tensor:
    """A weight ``(out, in, ...)`` as it is after rounding in groups along ``in``.

    >>> quantised(torch.tensor([[1.0, 0.4, -7.0]]), bits=4)
    tensor([[ 1.,  0., -7.]])
    """
    rows = weight.movedim(1, -1)
    n = rows.shape[-1]
    groups = F.pad(rows, (0, -n % GROUP)).unflatten(-1, (-1, GROUP))
    most = 2 ** (bits - 1) - 1
    scale = (groups.abs().amax(dim=-1, keepdim=True) / most).clamp(min=1e-12)
    rounded = (groups / scale).round().clamp(-most, most) * scale
    return rounded.flatten(-2)[..., :n].movedim(-1, 1)


@torch.no_grad()
def quantise(model: nn.Module, bits: int) -> nn.Module:
    """A copy of a model whose linear layers and convolutions have rounded weights."""
    result = copy.deepcopy(model)
    for module in result.modules():
        if isinstance(module, (nn.Linear, _ConvNd)) and not is_for_torchao(module):
            module.weight.copy_(quantised(module.weight, bits))
    if HAS_TORCHAO:
        from torchao.quantization import IntxWeightOnlyConfig, PerGroup, quantize_

        dtype = getattr(torch, f"int{bits}")  # int4 is unknown to type checkers
        config = IntxWeightOnlyConfig(weight_dtype=dtype, granularity=PerGroup(GROUP))
        quantize_(result, config, filter_fn=lambda module, name: is_for_torchao(module))
    return result


def is_for_torchao(module: nn.Module) -> bool:
    return HAS_TORCHAO and isinstance(module, nn.Linear) and module.in_features % GROUP == 0


@torch.no_grad()
def error(model: nn.Module, bits: int, expected: Tensor, inputs: Tensor) -> float:
    found: Any = quantise(model, bits)(inputs)
    return float((found - expected).norm() / expected.norm())


def losses(network: Network) -> Iterator[Loss]:
    """One per number of bits; of several members, the errors' mean."""
    found: dict[tuple[int, str], list[float]] = {}
    for member in network.members:
        with torch.no_grad():
            expected = member(network.inputs)
        example = (network.inputs[:4],)
        symmetry = fr.analyze(member, example)
        models = {"plain": member} | {
            name: fr.order(member, example, key=key, symmetry=symmetry)
            for name, key in KEYS.items()
        }
        for bits in BITS:
            for name, model in models.items():
                errors = found.setdefault((bits, name), [])
                errors.append(error(model, bits, expected, network.inputs))
    mean = {key: sum(errors) / len(errors) for key, errors in found.items()}
    for bits in BITS:
        yield Loss(
            network.name, bits, mean[bits, "plain"], {name: mean[bits, name] for name in KEYS}
        )
