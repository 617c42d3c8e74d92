"""Scales and shifts go into weights and biases exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fxrebasin.repair.channels import Slot
from fxrebasin.repair.folding import fold, overwrite
from fxrebasin.repair.places import Target


@pytest.mark.parametrize(
    ("layer", "axis", "groups", "shape"),
    [
        (nn.Linear(3, 6), 0, 1, (5, 3)),
        (nn.Conv1d(4, 6, 3), 0, 1, (5, 4, 7)),
        (nn.Conv2d(4, 6, 3, groups=2), 0, 1, (5, 4, 7, 7)),
        (nn.ConvTranspose1d(4, 6, 3), 1, 1, (5, 4, 7)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2, stride=2), 1, 2, (5, 4, 5, 5)),
        (nn.ConvTranspose3d(6, 6, 2, groups=6), 1, 6, (5, 6, 3, 3, 3)),
    ],
)
def test_a_layer_computes_its_scaled_and_shifted_result(
    layer: nn.Module, axis: int, groups: int, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    x, scale, shift = torch.randn(shape), torch.rand(6) + 0.5, torch.randn(6)
    channels = -1 if isinstance(layer, nn.Linear) else 1
    view = [1] * len(shape)
    view[channels] = 6
    expected = layer(x) * scale.view(view) + shift.view(view)
    target = Target(Slot("weight", axis, None, groups), Slot("bias", 0))
    fold(layer, [target], scale, shift)
    torch.testing.assert_close(layer(x), expected)


def test_of_a_packed_weight_only_the_rows_of_a_layer_change() -> None:
    layer = nn.Linear(3, 6)
    weight, bias = layer.weight.clone(), layer.bias.clone()
    rows = (4, 1)
    target = Target(Slot("weight", 0, rows), Slot("bias", 0, rows))
    fold(layer, [target], torch.tensor([2.0, 3.0]), torch.tensor([1.0, -1.0]))
    factor = torch.tensor([1.0, 3.0, 1.0, 1.0, 2.0, 1.0])
    torch.testing.assert_close(layer.weight, weight * factor[:, None])
    added = torch.tensor([0.0, -1.0, 0.0, 0.0, 1.0, 0.0])
    torch.testing.assert_close(layer.bias, bias * factor + added)


def test_of_a_sum_both_layers_are_scaled_and_one_is_shifted() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 4, bias=False), "b": nn.Linear(3, 4)})
    x, scale, shift = torch.randn(5, 3), torch.rand(4) + 0.5, torch.randn(4)
    expected = (model["a"](x) + model["b"](x)) * scale + shift
    targets = [Target(Slot("a.weight", 0)), Target(Slot("b.weight", 0), Slot("b.bias", 0))]
    fold(model, targets, scale, shift)
    torch.testing.assert_close(model["a"](x) + model["b"](x), expected)


def test_the_layer_that_reads_one_without_bias_takes_its_shift() -> None:
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2))
    x, scale, shift = torch.randn(5, 3), torch.rand(4) + 0.5, torch.randn(4)
    expected = model[1](model[0](x) * scale + shift)
    reader = Target(Slot("1.weight", 0), Slot("1.bias", 0))
    fold(model, [Target(Slot("0.weight", 0))], scale, shift, shifted=reader)
    torch.testing.assert_close(model(x), expected)


def test_tensors_of_every_kind_are_overwritten() -> None:
    with torch.inference_mode():
        made = torch.ones(2)
    for stored in (made, nn.Parameter(torch.ones(2)), torch.ones(2, dtype=torch.bfloat16)):
        value: Tensor = torch.tensor([3.0, 4.0], dtype=torch.float64)
        overwrite(stored, value)
        assert stored.tolist() == [3.0, 4.0]
