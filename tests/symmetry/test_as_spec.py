"""Permutation specs: right where they exist, refused with a reason where they do not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
import torchvision
from networks import NETWORKS
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin import Block, Permutation, Segment, Symmetry
from fxrebasin.errors import FxrebasinError, UnsupportedSymmetryError
from fxrebasin.symmetry.as_spec import permutation_spec
from fxrebasin.symmetry.parts import AxisGroup, ParameterSymmetry

torch.set_num_threads(1)


def apply_spec(
    spec: Mapping[str, tuple[str | None, ...]],
    permutations: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """What a program that knows nothing but specs does."""
    result = {}
    for name, tensor in state.items():
        moved = tensor
        for axis, block in enumerate(spec[name]):
            if block is not None:
                moved = moved.index_select(axis, permutations[block])
        result[name] = moved
    return result


def check(model: nn.Module, x: Tensor) -> Symmetry:
    """A spec moves every tensor to the same place as the permutation itself."""
    model.eval()
    symmetry = fr.analyze(model, args=(x,))
    spec = permutation_spec(symmetry)
    permutation = Permutation.random(symmetry, torch.Generator().manual_seed(0))
    state = model.state_dict()
    assert spec.keys() == state.keys()
    assert all(len(spec[name]) == tensor.ndim for name, tensor in state.items())
    used = {block for axes in spec.values() for block in axes if block is not None}
    assert used == symmetry.blocks.keys()
    expected = permutation.apply(state)
    found = apply_spec(spec, _tensors(permutation), state)
    assert not permutation.is_identity
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    return symmetry


def _tensors(permutation: Permutation) -> dict[str, Tensor]:
    return {name: torch.from_numpy(i[0]) for name, i in permutation.indices.items()}


def test_a_multilayer_perceptron() -> None:
    layers = [nn.Linear(3, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU()]
    symmetry = check(nn.Sequential(*layers, nn.Linear(6, 2)), torch.randn(4, 3))
    spec = permutation_spec(symmetry)
    assert spec["0.weight"] == ("0.weight[0]", None)
    assert spec["1.bias"] == ("0.weight[0]",)
    assert spec["3.weight"] == ("3.weight[0]", "0.weight[0]")
    assert spec["5.weight"] == (None, "3.weight[0]")
    assert spec["5.bias"] == (None,)


def test_a_convolutional_network_with_statistics() -> None:
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3)]
    layers += [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)]
    spec = permutation_spec(check(nn.Sequential(*layers), torch.randn(2, 3, 8, 8)))
    assert spec["1.running_var"] == ("0.weight[0]",)
    assert spec["1.num_batches_tracked"] == ()
    assert spec["3.weight"] == ("3.weight[0]", "0.weight[0]", None, None)


def test_resnet18() -> None:
    model = torchvision.models.resnet18(num_classes=10)
    symmetry = check(model, torch.randn(1, 3, 64, 64))
    spec = permutation_spec(symmetry)
    stream, inner = "layer2.0.conv2.weight[0]", "layer2.0.conv1.weight[0]"
    assert spec["layer2.0.conv2.weight"] == (stream, inner, None, None)
    assert spec["layer2.0.downsample.0.weight"] == (stream, "conv1.weight[0]", None, None)


def test_tied_tensors_have_an_entry_per_name() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(7, 6), nn.Linear(6, 7, bias=False)
            self.head.weight = self.words.weight

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.head(self.words(x).relu())
            return result

    symmetry = check(Tied(), torch.zeros(2, 4, dtype=torch.long))
    spec = permutation_spec(symmetry)
    assert spec["words.weight"] == spec["head.weight"] == (None, next(iter(symmetry.blocks)))


def test_nothing_moves() -> None:
    symmetry = fr.analyze(nn.Linear(3, 2), args=(torch.zeros(1, 3),))
    assert permutation_spec(symmetry) == {"weight": (None, None), "bias": (None,)}


# what a spec cannot express


def message(symmetry: Symmetry) -> str:
    with pytest.raises(UnsupportedSymmetryError) as caught:
        permutation_spec(symmetry)
    assert isinstance(caught.value, FxrebasinError)
    assert isinstance(caught.value, ValueError)
    text = str(caught.value)
    assert text.endswith("Use Permutation.apply, which moves every parameter, instead of a spec")
    return text


def analyse(model: nn.Module, *shape: int) -> Symmetry:
    return fr.analyze(model.eval(), args=(torch.zeros(2, *shape),))


def test_a_flattened_feature_map() -> None:
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 2)]
    text = message(analyse(nn.Sequential(*layers), 3, 6, 6))
    assert "axis 1 of '4.weight'" in text
    assert "'0.weight[0]' lies on it in 4 copies" in text


def test_heads() -> None:
    network = NETWORKS["torch_attention"]
    text = message(fr.analyze(network.factory(), args=network.inputs(2)))
    assert "in_proj_weight'" in text
    assert "is nested in" in text


class Concatenation(nn.Module):
    def __init__(self, pinned: bool) -> None:
        super().__init__()
        self.pinned = pinned
        self.left, self.right = nn.Linear(3, 5), nn.Linear(3, 4)
        self.head = nn.Linear(8 if pinned else 9, 2)

    def forward(self, x: Tensor) -> Tensor:
        other = x if self.pinned else self.right(x)
        result: Tensor = self.head(torch.cat((self.left(x), other), 1).relu())
        return result


def test_a_sum_of_blocks() -> None:
    text = message(analyse(Concatenation(pinned=False), 3))
    assert "axis 1 of 'head.weight': it is a sum of" in text
    assert "'left.weight[0]' and 'right.weight[0]'" in text


def test_a_sum_with_pinned_units() -> None:
    text = message(analyse(Concatenation(pinned=True), 3))
    assert "it is a sum of 'left.weight[0]' and 3 pinned units" in text


def test_long_sums_are_shortened() -> None:
    blocks = {f"b{k}": Block(f"b{k}", 2) for k in range(6)}
    segments = tuple(
        Segment((name,), np.arange(2 * k, 2 * k + 2).reshape(2, 1), (-1,))
        for k, name in enumerate(blocks)
    )
    weight = ParameterSymmetry(("w",), (12,), False, (AxisGroup((0,), segments),))
    assert "a sum of 'b0', 'b1', 'b2' and 3 more" in message(Symmetry(blocks, (weight,)))


def test_a_product_of_blocks() -> None:
    network = NETWORKS["OuterProduct"]
    text = message(fr.analyze(network.factory(), args=network.inputs(2)))
    assert "axis 1 of 'head.weight': it is a product of" in text


class Reversed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.leave(self.enter(x).relu().flip(1))
        return result


def test_units_in_another_order() -> None:
    text = message(analyse(Reversed(), 3))
    assert "axis 1 of 'leave.weight'" in text
    assert "the units of block 'enter.weight[0]' lie on it in another order" in text


def test_axes_that_move_jointly() -> None:
    segment = Segment(("w[0]",), np.arange(6).reshape(6, 1), (-1,))
    weight = ParameterSymmetry(("w",), (2, 3), False, (AxisGroup((0, 1), (segment,)),))
    text = message(Symmetry({"w[0]": Block("w[0]", 6)}, (weight,)))
    assert "cannot express axes 0, 1 of 'w': they move jointly" in text
