"""The weight matching of GLMC, by hand for these networks, as a summary of its paper has it.

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
from torch import Tensor

from benchmarks.transformers.circuits import CircuitAttention, circuits_in, with_circuits
from benchmarks.transformers.networks import Layer, Transformer, ViT, layers_of

ROUNDS = 5


@torch.no_grad()
def glmc(a: Transformer, b: Transformer) -> tuple[Transformer, Transformer]:
    """Both networks with products of matrices, the second one aligned.

    Args:
        a, b: networks whose norms' weights are one, and whose streams are centred.
    """
    a, b = with_circuits(a).double(), with_circuits(b).double()
    still = torch.eye(len(a.norm.weight), dtype=torch.float64)
    rotation = _best_rotation([*_outside(a)], [*_outside(b)])
    for _ in range(ROUNDS):
        moved = copy.deepcopy(b)
        rotate(moved, rotation)
        for one, other, own in zip(*map(layers_of, (a, moved, b)), strict=True):
            order = _order_of_perceptron(one, other)
            for layer in (other, own):
                _permute_perceptron(layer, order)
        for ours, theirs, circuits in zip(*map(circuits_in, (a, moved, b)), strict=True):
            order = _order_of_heads(ours, theirs)
            circuits.qk.copy_(circuits.qk[order])
            circuits.ov.copy_(circuits.ov[order])
        rotation = _best_rotation([*_rows(a, still)], [*_rows(b, rotation)])
    rotate(b, rotation)
    return a.float(), b.float()


def rotate(model: Transformer, rotation: Tensor) -> None:
    """Rotate the stream of a network with products, in place."""
    for rows in (*_outside(model), *_inside(model)):
        rows.copy_(rows @ rotation.mT)
    wide = _with_one(rotation)
    for circuits in circuits_in(model):
        circuits.qk.copy_(wide @ circuits.qk @ wide.mT)
        circuits.ov.copy_(rotation @ circuits.ov @ wide.mT)


def _outside(model: Transformer) -> Iterator[Tensor]:
    """The tensors outside of layers that the stream is an axis of, as their last."""
    for name, parameter in model.named_parameters():
        if not name.startswith("layers.") and name not in ("head.bias", "norm.weight"):
            is_first = name == "embedding.weight" and isinstance(model, ViT)
            yield parameter.data.mT if is_first else parameter.data


def _inside(model: Transformer) -> Iterator[Tensor]:
    """The same inside of layers, but for products."""
    for layer in layers_of(model):
        biases = (layer.norm1.bias, layer.norm2.bias, layer.down.bias)
        yield from (p.data for p in (*biases, layer.up.weight))
        yield layer.down.weight.data.mT
    yield from (circuits.bias.data for circuits in circuits_in(model))


def _rows(model: Transformer, rotation: Tensor) -> Iterator[Tensor]:
    """All tensors with the stream as their last axis, other axes along the stream rotated."""
    yield from _outside(model)
    yield from _inside(model)
    width = len(rotation)
    wide = _with_one(rotation)
    for circuits in circuits_in(model):
        qk, ov = circuits.qk.data, circuits.ov.data
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
    total = torch.stack([x.reshape(-1, width).mT @ y.reshape(-1, width) for x, y in pairs]).sum(0)
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


def _order_of_heads(one: CircuitAttention, other: CircuitAttention) -> Tensor:
    pairs = ((one.qk, other.qk), (one.ov, other.ov))
    apart = [torch.cdist(x.flatten(1), y.flatten(1)) ** 2 for x, y in pairs]
    return _assigned(-torch.stack(apart).sum(0))


def _assigned(alike: Tensor) -> Tensor:
    return torch.from_numpy(linear_sum_assignment(alike.numpy(), maximize=True)[1])
