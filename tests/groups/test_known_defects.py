"""Mistakes that other tools make when they find or apply permutations, each as a test.

Those of their solvers, of their repair of statistics and of their packaging are not here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from networks import NETWORKS, Apply, Attention, Residual, S, real, stream, wr
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin import Permutation, Symmetry

torch.set_num_threads(1)

X = real(3)(8)
IMAGES = real(3, 6, 6)(8)


def block_sizes(symmetry: Symmetry) -> list[tuple[int, int, int]]:
    sizes = {block.name: block.size for block in symmetry}
    return sorted((b.size, b.count, sizes[b.parent] if b.parent else 0) for b in symmetry)


def moving(symmetry: Symmetry) -> Permutation:
    """A permutation in which every block moves."""
    for seed in range(1000):
        found = Permutation.random(symmetry, torch.Generator().manual_seed(seed))
        if all((found.flat(b.name) != range(b.units)).any() for b in symmetry):
            return found
    raise AssertionError("no such permutation")


def moves(symmetry: Symmetry, name: str) -> set[int]:
    """The axes of a parameter that some block moves."""
    return {dim for block in symmetry for parameter, dim in block.axes if parameter == name}


def check(model: nn.Module, *inputs: Tensor) -> tuple[nn.Module, nn.Module, Symmetry]:
    """Randomise, analyse and permute a model; the function may not change."""
    symmetry = fr.analyze(model, args=inputs)
    model = randomise(copy.deepcopy(model))
    moved = moving(symmetry).apply_to(model)
    assert difference(evaluate(moved, inputs), evaluate(model, inputs)) < 1e-10
    return model, moved, symmetry


def test_batch_norm_statistics_are_permuted() -> None:
    """Fresh statistics hide this: they are all 0 and 1."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 2)
    )
    model, moved, _ = check(net, IMAGES)
    for name in ("1.running_mean", "1.running_var"):
        before, after = model.get_buffer(name), moved.get_buffer(name)
        assert not torch.equal(before, after)
        assert torch.equal(before.sort()[0], after.sort()[0])


def test_channels_are_flattened_in_blocks_of_height_by_width() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 2))
    model, moved, symmetry = check(net, IMAGES)
    assert block_sizes(symmetry) == S(6)
    (order,) = [moving(symmetry).flat(b.name) for b in symmetry]
    before = model.get_parameter("3.weight").unflatten(1, (6, 16))
    assert torch.equal(moved.get_parameter("3.weight").unflatten(1, (6, 16)), before[:, order])


def test_every_layer_of_a_bottleneck_has_a_class_of_its_own() -> None:
    """A specification written by hand once named the second convolution twice."""
    block = nn.Sequential(
        nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5), nn.ReLU(),
        nn.Conv2d(5, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4),
    )  # fmt: skip
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Residual(*block), nn.ReLU(), nn.Conv2d(4, 2, 1))
    _, _, symmetry = check(net, IMAGES)
    assert block_sizes(symmetry) == S(4, 5, 6)
    for layer in (0, 3, 6):
        assert moves(symmetry, f"1.{layer}.weight") == {0, 1}
        assert moves(symmetry, f"1.{layer + 1}.running_var") == {0}


def test_permutations_are_integers_and_do_not_cross_heads() -> None:
    model, moved, symmetry = check(stream(Attention()), real(4, 3)(8))
    assert block_sizes(symmetry) == sorted(S(5) + wr(3, 2, 2))
    permutation = moving(symmetry)
    assert all(index.dtype.kind == "i" for index in permutation.indices.values())
    (heads,) = (b for b in symmetry if b.size == 3)
    order = permutation.flat(heads.name)
    (residual,) = (permutation.flat(b.name) for b in symmetry if b.size == 5)
    for name in ("1.0.q", "1.0.k", "1.0.v"):
        before = model.get_parameter(f"{name}.weight")[:, residual].unflatten(0, (3, 2))[order]
        after = moved.get_parameter(f"{name}.weight").unflatten(0, (3, 2))
        assert torch.equal(before.sort(dim=1)[0], after.sort(dim=1)[0])


def test_unknown_modules_and_ops_cost_symmetry_but_never_fail() -> None:
    """``geqrf`` has no rule; the layers away from it keep their blocks."""

    class Unknown(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.geqrf(x)[0]

    net = nn.Sequential(
        nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5), Unknown(), nn.Linear(5, 4), nn.Tanh(),
        nn.Linear(4, 2),
    )  # fmt: skip
    _, _, symmetry = check(net, X)
    assert list(symmetry.unknown_ops) == ["aten.geqrf.default"]
    assert block_sizes(symmetry) == sorted(S(6, 4))


def test_group_norm_keeps_its_groups() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.ReLU(), nn.Conv2d(6, 2, 1))
    model, moved, symmetry = check(net, IMAGES)
    assert block_sizes(symmetry) == sorted(wr(2, 3))
    assert symmetry.log_order == pytest.approx(math.log(2 * 6**2))
    before = model.get_parameter("1.bias").unflatten(0, (2, 3)).sort()[0].tolist()
    after = moved.get_parameter("1.bias").unflatten(0, (2, 3)).sort()[0].tolist()
    assert sorted(before) == sorted(after)


@pytest.mark.parametrize(("groups", "expected"), [(6, S(6)), (2, wr(2, 3, 3))])
def test_grouped_convolutions_couple_what_goes_in_and_out(
    groups: int, expected: list[tuple[int, int, int]]
) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 6, 3, groups=groups), nn.Tanh(),
        nn.Conv2d(6, 2, 1),
    )  # fmt: skip
    _, _, symmetry = check(net, IMAGES)
    assert block_sizes(symmetry) == sorted(expected)


@pytest.mark.parametrize(
    "order_matters",
    [
        lambda h: h.cumsum(1),
        lambda h: h * torch.arange(6),
        lambda h: h * (torch.arange(6) < 3),
        lambda h: h.unfold(1, 3, 1).prod(2),
        lambda h: h[:, 1:] - h[:, :-1],
        lambda h: torch.fft.rfft(h, dim=1).abs(),
        lambda h: h.argmax(1, keepdim=True) * h,
        lambda h: h.diff(dim=1),
        lambda h: h.view(-1, 3, 2).flip(2).flatten(1) * torch.arange(6).cos() + h,
        lambda h: torch.tril(h.unsqueeze(1).expand(-1, 6, -1)).sum(2),
    ],
)
def test_what_depends_on_the_order_of_units_freezes_them(
    order_matters: Callable[[Tensor], Tensor],
) -> None:
    probe = order_matters(torch.zeros(2, 6)).shape[1]
    net = nn.Sequential(
        nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 6), Apply(order_matters), nn.Linear(probe, 4),
        nn.Tanh(), nn.Linear(4, 2),
    )  # fmt: skip
    model, moved, symmetry = check(net, X)
    assert block_sizes(symmetry) == sorted(S(5, 4))
    assert moves(symmetry, "2.weight") == {1}
    assert torch.equal(model.get_parameter("2.bias"), moved.get_parameter("2.bias"))


def test_softmax_over_units_does_not_freeze_them() -> None:
    net = nn.Sequential(nn.Linear(3, 6), nn.Softmax(1), nn.Linear(6, 2))
    _, _, symmetry = check(net, X)
    assert block_sizes(symmetry) == S(6)


def test_tied_parameters_are_one_tensor_that_moves_once() -> None:
    model, moved, symmetry = check(
        NETWORKS["TiedLanguageModel"].factory(), NETWORKS["TiedLanguageModel"].inputs(8)[0]
    )
    (tied,) = (p for p in symmetry.parameters if "lm_head.weight" in p.names)
    assert set(tied.names) == {"tokens.weight", "lm_head.weight"}
    assert moved.get_parameter("tokens.weight") is moved.get_parameter("lm_head.weight")
    permuted = moving(symmetry).apply(model.state_dict())
    assert permuted["tokens.weight"].data_ptr() == permuted["lm_head.weight"].data_ptr()
    assert torch.equal(permuted["tokens.weight"], moved.get_parameter("tokens.weight"))


@pytest.mark.parametrize("name", ["CalledTwice", "UnrolledCell", "Siamese"])
def test_modules_called_more_than_once_move_once(name: str) -> None:
    network = NETWORKS[name]
    check(network.factory(), *network.inputs(8))


def test_a_class_on_two_axes_of_a_tensor_permutes_both() -> None:
    model, moved, symmetry = check(NETWORKS["TiedLinears"].factory(), X)
    assert moves(symmetry, "first.weight") == {0, 1}
    (order,) = (moving(symmetry).flat(b.name) for b in symmetry)
    before = model.get_parameter("first.weight")
    assert torch.equal(moved.get_parameter("first.weight"), before[order][:, order])


def test_every_input_and_output_is_frozen() -> None:
    model, moved, symmetry = check(NETWORKS["SeveralOutputs"].factory(), X)
    for name in ("one", "two"):
        assert moves(symmetry, f"{name}.weight") == {1}
        assert torch.equal(model.get_parameter(f"{name}.bias"), moved.get_parameter(f"{name}.bias"))
    assert moves(symmetry, "trunk.weight") == {0}
    _, _, several = check(NETWORKS["ConcatOfBranches"].factory(), X, real(4)(8))
    assert moves(several, "left.weight") == moves(several, "right.weight") == {0}


def test_analysis_is_in_eval_mode_and_leaves_the_mode_and_the_random_numbers_alone() -> None:
    net = nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.5), nn.Linear(6, 2)).train()
    net[1].eval()
    before = torch.get_rng_state()
    symmetry = fr.analyze(net, args=(X,))
    assert [m.training for m in net.modules()] == [True, True, False, True]
    assert torch.equal(torch.get_rng_state(), before)
    assert block_sizes(symmetry) == S(6)


def test_batch_norm_is_equivalent_in_train_mode_too() -> None:
    """Also after a step in train mode, which updates the permuted statistics."""
    net = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    model, moved, symmetry = check(net, X)
    model.train()
    moved.train()
    assert difference(evaluate(moved, (X,)), evaluate(model, (X,))) < 1e-10
    again = moving(symmetry).apply(model.state_dict())
    for name, tensor in moved.state_dict().items():
        torch.testing.assert_close(tensor, again[name])
    model.eval()
    moved.eval()
    assert difference(evaluate(moved, (X,)), evaluate(model, (X,))) < 1e-10


def test_other_state_is_left_alone() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1))
    net.get_buffer("1.num_batches_tracked").fill_(17)
    net.register_buffer("steps", torch.tensor([3, 1, 2]))
    before = copy.deepcopy(net.state_dict())
    symmetry = fr.analyze(net.train(), args=(IMAGES,))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    permuted = moving(symmetry).apply(net.state_dict())
    assert list(permuted) == list(before)
    for name in ("1.num_batches_tracked", "steps"):
        assert torch.equal(permuted[name], before[name])
    assert all(t.dtype == before[name].dtype for name, t in permuted.items())


def test_analysis_does_not_write_to_buffers_that_the_model_updates() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
            self.register_buffer("calls", torch.zeros(()))
            self.calls: Tensor

        def forward(self, x: Tensor) -> Tensor:
            self.calls.add_(1)
            return self.head(self.first(x).relu())

    net = Counting()
    symmetry = fr.analyze(net, args=(X,))
    assert net.calls.item() == 0
    assert block_sizes(symmetry) == S(6)


def test_names_that_differ_in_punctuation_only_are_told_apart() -> None:
    """``a.b``, ``a_b`` and ``ab``: a tracer's node names are no parameter names."""

    class Ambiguous(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.ModuleDict({"b": nn.Linear(3, 4), "b_1": nn.Linear(5, 6)})
            self.a_b = nn.Linear(4, 5)
            self.ab = nn.Linear(6, 7)
            self.a_b_1 = nn.Linear(7, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a_b(self.a["b"](x).tanh()).tanh()
            return self.a_b_1(self.ab(self.a["b_1"](x).tanh()).tanh())

    _, _, symmetry = check(Ambiguous(), X)
    assert block_sizes(symmetry) == S(4, 5, 6, 7)
    axes = {b.size: {(n, d) for n, d in b.axes if n.endswith("weight")} for b in symmetry}
    assert axes == {
        4: {("a.b.weight", 0), ("a_b.weight", 1)},
        5: {("a_b.weight", 0), ("a.b_1.weight", 1)},
        6: {("a.b_1.weight", 0), ("ab.weight", 1)},
        7: {("ab.weight", 0), ("a_b_1.weight", 1)},
    }
