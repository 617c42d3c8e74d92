"""The weight matching of GLMC, by hand for these networks, as its paper has it.

Perceptrons are permuted, heads are permuted by the distances of their products, and one rotation of
the whole stream is found for what they leave, five times in turn. The products are what is
interpolated (see ``circuits``).

Source: A. Theus et al., "Generalized Linear Mode Connectivity for Transformers", arXiv 2506.22712
(2025). Written from the paper; products, which are quadratic in the rotation, are taken as linear
in it, one side at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from benchmarks.transformers.circuits import with_circuits
from benchmarks.transformers.networks import Layer

ROUNDS = 5


@torch.no_grad()
def glmc(a: nn.Module, b: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Both networks with products of matrices, the second one aligned.

    Args:
        a, b: networks whose norms' weights are one, and whose streams are centred.
    """
    a, b = with_circuits(a).double(), with_circuits(b).double()
    width = len(a.norm.weight)
    still = torch.eye(width, dtype=torch.float64)
    rotation = _best_rotation([*_outside(a)], [*_outside(b)])
    for _ in range(ROUNDS):
        moved = copy.deepcopy(b)
        rotate(moved, rotation)
        for one, other, own in zip(_layers(a), _layers(moved), _layers(b), strict=True):
            order = _order_of_perceptron(one, other)
            for layer in (other, own):
                _permute_perceptron(layer, order)
            order = _order_of_heads(one, other)
            for attention in (other.attention, own.attention):
                attention.qk.copy_(attention.qk[order])
                attention.ov.copy_(attention.ov[order])
        rotation = _best_rotation([*_rows(a, still)], [*_rows(b, rotation)])
    rotate(b, rotation)
    return a.float(), b.float()


def rotate(model: nn.Module, rotation: Tensor) -> None:
    """Rotate the stream of a network with products, in place."""
    for rows in (*_outside(model), *_inside(model)):
        rows.copy_(rows @ rotation.mT)
    wide = _with_one(rotation)
    for layer in _layers(model):
        layer.attention.qk.copy_(wide @ layer.attention.qk @ wide.mT)
        layer.attention.ov.copy_(rotation @ layer.attention.ov @ wide.mT)


def _layers(model: nn.Module) -> list[Layer]:
    return [layer for layer in model.modules() if isinstance(layer, Layer)]


def _outside(model: nn.Module) -> Iterator[Tensor]:
    """The tensors outside of layers that the stream is an axis of, as their last."""
    for name, parameter in model.named_parameters():
        if not name.startswith("layers.") and name not in ("head.bias", "norm.weight"):
            is_first = name == "embedding.weight" and isinstance(model.embedding, nn.Linear)
            yield parameter.data.mT if is_first else parameter.data


def _inside(model: nn.Module) -> Iterator[Tensor]:
    """The same inside of layers, but for products."""
    for layer in _layers(model):
        biases = (layer.norm1.bias, layer.norm2.bias, layer.attention.bias, layer.down.bias)
        yield from (p.data for p in (*biases, layer.up.weight))
        yield layer.down.weight.data.mT


def _rows(model: nn.Module, rotation: Tensor) -> Iterator[Tensor]:
    """All tensors with the stream as their last axis, other axes along the stream rotated."""
    yield from _outside(model)
    yield from _inside(model)
    width = len(rotation)
    wide = _with_one(rotation)
    for layer in _layers(model):
        qk, ov = layer.attention.qk.data, layer.attention.ov.data
        yield (wide @ qk)[..., :width]
        yield (qk @ wide.mT).mT[..., :width]
        yield (rotation @ ov)[..., :width]
        yield (ov @ wide.mT).mT


def _with_one(rotation: Tensor) -> Tensor:
    return torch.block_diag(rotation, torch.ones(1, 1).to(rotation))


def _best_rotation(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """The rotation, of those that keep the vector of ones, that brings rows closest to ours."""
    width = ours[0].shape[-1]
    pairs = zip(ours, theirs, strict=True)
    total = sum(x.reshape(-1, width).mT @ y.reshape(-1, width) for x, y in pairs)
    ones = torch.full((width, width), 1 / width, dtype=torch.float64)
    centre = torch.eye(width, dtype=torch.float64) - ones
    left, _, right = torch.linalg.svd(centre @ total @ centre + width * total.norm() * ones)
    return left @ right


def _order_of_perceptron(one: Layer, other: Layer) -> Tensor:
    """Which of the other's hidden units come to the places of ours."""
    alike = one.up.weight @ other.up.weight.mT + one.down.weight.mT @ other.down.weight
    return _assigned(alike + one.up.bias[:, None] * other.up.bias)


def _permute_perceptron(layer: Layer, order: Tensor) -> None:
    for parameter in (layer.up.weight, layer.up.bias):
        parameter.copy_(parameter[order])
    layer.down.weight.copy_(layer.down.weight[:, order])


def _order_of_heads(one: Layer, other: Layer) -> Tensor:
    pairs = ((one.attention.qk, other.attention.qk), (one.attention.ov, other.attention.ov))
    return _assigned(-sum(torch.cdist(x.flatten(1), y.flatten(1)) ** 2 for x, y in pairs))


def _assigned(alike: Tensor) -> Tensor:
    return torch.from_numpy(linear_sum_assignment(alike.numpy(), maximize=True)[1])
