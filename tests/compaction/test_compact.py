"""What is cut out of small models that are made by hand, and what is said of the rest."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks import real
from reliability import Snapshot
from torch import Tensor, nn
from torch.nn.utils import prune

import fxrebasin as fr
from fxrebasin.errors import ArchitectureMismatchError
from fxrebasin.models.precision import largest_error

torch.set_num_threads(1)

X = real(3)(8)
IMAGES = real(3, 6, 6)(4)
TOKENS = real(5, 6)(2)


def made(factory: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return factory().eval()


def mlp(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), activation(), nn.Linear(6, 2))


@torch.no_grad()
def zero(tensor: Tensor, *index: Any) -> None:
    tensor[index] = 0.0


def check(model: nn.Module, smaller: nn.Module, *args: Tensor) -> None:
    with torch.no_grad():
        expected, found = copy.deepcopy(model).eval()(*args), smaller(*args)
    assert largest_error([expected], [found]) < 1e-5


def test_a_unit_that_nothing_reads_goes() -> None:
    model = mlp()
    zero(model.get_parameter("2.weight"), slice(None), [1, 4])
    smaller = fr.compact(model, (X,))
    assert smaller.report.removed == {"0.weight[0]": 2}
    assert smaller.report.folded == ()
    kept = [0, 2, 3, 5]
    assert torch.equal(smaller.state_dict()["0.weight"], model.get_parameter("0.weight")[kept])
    assert torch.equal(smaller.state_dict()["2.weight"], model.get_parameter("2.weight")[:, kept])
    check(model, smaller, X)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU])
def test_a_constant_goes_into_the_next_bias(activation: type[nn.Module]) -> None:
    model = mlp(activation)
    zero(model.get_parameter("0.weight"), [0, 5])
    model.get_parameter("0.bias").data[[0, 5]] = torch.tensor([0.5, 2.0])
    smaller = fr.compact(model, (X,))
    assert smaller.report.folded == ("2.bias",)
    constants = activation()(torch.tensor([0.5, 2.0]))
    expected = (
        model.get_parameter("2.bias") + model.get_parameter("2.weight")[:, [0, 5]] @ constants
    )
    assert torch.allclose(smaller.state_dict()["2.bias"], expected)
    assert (smaller.report.parameters_before, smaller.report.parameters_after) == (38, 26)
    check(model, smaller, X)


def test_a_constant_that_no_bias_can_take_stays() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2, bias=False))
    zero(model.get_parameter("0.weight"), 0)
    report = fr.compact(model, (X,)).report
    assert report.removed == {}
    (note,) = report.notes
    assert note == "of '0.weight[0]' units stay: '2' reads a constant, and has no bias to take it"
    model.get_parameter("0.bias").data[0] = 0.0  # tanh(0) = 0, which need not go anywhere
    assert fr.compact(model, (X,)).report.removed == {"0.weight[0]": 1}


def padded(padding: int, mode: Any = "zeros") -> nn.Sequential:
    """Two convolutions; one channel between them is the constant 1."""
    torch.manual_seed(0)
    second = nn.Conv2d(4, 2, 3, padding=padding, padding_mode=mode)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), second)
    zero(model.get_parameter("0.weight"), 1)
    model.get_parameter("0.bias").data[1] = 1.0
    return model


@pytest.mark.parametrize(("padding", "mode"), [(0, "zeros"), (1, "circular"), (1, "replicate")])
def test_a_constant_channel_goes_where_the_next_layer_sees_it_everywhere(
    padding: int, mode: str
) -> None:
    model = padded(padding, mode)
    smaller = fr.compact(model, (IMAGES,))
    assert smaller.report.removed == {"0.weight[0]": 1}
    check(model, smaller, IMAGES)


def test_a_constant_channel_stays_where_the_next_layer_pads_with_zeros() -> None:
    model = padded(1)
    report = fr.compact(model, (IMAGES,)).report
    assert report.removed == {}
    assert "it pads with zeros" in report.notes[0]
    model.get_parameter("0.bias").data[1] = -1.0  # relu(-1) = 0, as the padding
    assert fr.compact(model, (IMAGES,)).report.removed == {"0.weight[0]": 1}


def test_a_constant_goes_into_the_running_mean_of_the_next_norm() -> None:
    torch.manual_seed(0)
    first = (nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    second = (nn.Conv2d(4, 5, 1, bias=False), nn.BatchNorm2d(5), nn.ReLU())
    model = nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(180, 2)).eval()
    zero(model.get_parameter("0.weight"), 2)
    model.get_parameter("1.bias").data[2] = 0.7
    smaller = fr.compact(model, (IMAGES,))
    assert smaller.report.removed == {"0.weight[0]": 1}
    assert smaller.report.folded == ("4.running_mean",)
    assert smaller.get_submodule("1").num_features == 3
    check(model, smaller, IMAGES)


class Stream(nn.Module):
    """A stream of 6 features with two writers and two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.up, self.down = nn.Linear(6, 4), nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.down(torch.relu(self.up(x)))
        return self.head(x)


def test_a_unit_of_a_stream_goes_only_if_all_writers_or_all_readers_allow_it() -> None:
    model = made(Stream)
    zero(model.get_parameter("stem.weight"), 0)  # written by one: needed
    zero(model.get_parameter("up.weight"), slice(None), 1)  # read by one: needed
    smaller = fr.compact(model, (X,))
    assert smaller.report.removed == {}
    zero(model.get_parameter("down.weight"), 0)
    zero(model.get_parameter("head.weight"), slice(None), 1)
    smaller = fr.compact(model, (X,))
    assert smaller.report.removed == {"stem.weight[0]": 2}
    assert set(smaller.report.folded) == {"up.bias", "head.bias"}
    check(model, smaller, X)


def test_what_zeros_in_half_of_a_gate_do_depends_on_the_gate() -> None:
    class Gated(nn.Module):
        def __init__(self, gate: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.up, self.gate = nn.Linear(3, 6), nn.Linear(3, 6, bias=False)
            self.down, self.function = nn.Linear(6, 2), gate

        def forward(self, x: Tensor) -> Tensor:
            return self.down(self.up(x) * self.function(self.gate(x)))

    for gate, gone in ((F.silu, 1), (torch.sigmoid, 0)):  # silu(0) is 0, sigmoid(0) is not
        model = made(lambda: Gated(gate))  # noqa: B023 - called at once
        zero(model.get_parameter("gate.weight"), 3)
        smaller = fr.compact(model, (X,))
        assert sum(smaller.report.removed.values()) == gone
        check(model, smaller, X)


class SelfAttention(nn.Module):
    """3 heads of 4 features; views with sizes that are written down in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 36), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = self.qkv(x).chunk(3, -1)
        q, k, v = (y.view(b, t, 3, 4).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(b, t, 12))


def test_a_head_whose_values_are_zero_goes() -> None:
    model = made(SelfAttention)
    zero(model.get_parameter("qkv.weight"), slice(28, 32))  # values of head 1
    zero(model.get_parameter("qkv.bias"), slice(28, 32))
    smaller = fr.compact(model, (TOKENS,))
    assert smaller.report.removed == {"qkv.weight[0]": 1}
    assert tuple(smaller.state_dict()["qkv.weight"].shape) == (24, 6)
    for batch in (1, 2):
        check(model, smaller, TOKENS[:batch])


def test_features_of_queries_go_and_the_scale_of_scores_stays() -> None:
    """The kernel scales by the length that it sees, which becomes shorter."""
    model = made(SelfAttention)
    for head, feature in ((0, 1), (1, 3), (2, 0)):
        zero(model.get_parameter("qkv.weight"), 4 * head + feature)
        zero(model.get_parameter("qkv.bias"), 4 * head + feature)
    smaller = fr.compact(model, (TOKENS,))
    assert smaller.report.removed == {"qkv.weight[0]#2": 1}
    assert tuple(smaller.state_dict()["qkv.weight"].shape) == (30, 6)
    check(model, smaller, TOKENS)


def test_as_many_features_go_as_every_head_can_do_without() -> None:
    model = made(SelfAttention)
    for head, features in enumerate(([0, 1], [2], [1, 3])):
        rows = [24 + 4 * head + feature for feature in features]
        zero(model.get_parameter("qkv.weight"), rows)
        zero(model.get_parameter("qkv.bias"), rows)
    smaller = fr.compact(model, (TOKENS,))
    assert smaller.report.removed == {"qkv.weight[0]#3": 1}
    (note,) = smaller.report.notes
    assert "not all of 'qkv.weight[0]' can do without as many" in note
    check(model, smaller, TOKENS)


def test_heads_of_torchs_own_attention_go_in_an_exported_graph() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.attention(x, x, x, need_weights=False)[0]
            return y

    model = made(Own)
    zero(model.get_parameter("attention.out_proj.weight"), slice(None), [2, 3])
    assert fr.compact(model, (TOKENS,)).report.removed == {}
    smaller = fr.compact(model, (TOKENS,), front_ends=["export"])
    assert smaller.report.removed == {"attention.in_proj_weight[0]": 1}
    check(model, smaller, TOKENS)


def test_channels_of_a_flattened_map_go_with_all_their_places() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    weight = model.get_parameter("3.weight").data.view(2, 4, 16)
    zero(weight, slice(None), 1, slice(None))
    zero(weight, slice(None), 2, slice(8))  # of channel 2 some places are still read
    smaller = fr.compact(model, (IMAGES,))
    assert smaller.report.removed == {"0.weight[0]": 1}
    assert smaller.get_submodule("3").in_features == 48
    check(model, smaller, IMAGES)


def test_bounds_of_slices_move() -> None:
    class Sliced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.one, self.two = nn.Linear(3, 10), nn.Linear(4, 2), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.tanh(self.stem(x))
            return self.one(x[:, :4]) + self.two(x[..., -6:])

    model = made(Sliced)
    zero(model.get_parameter("one.weight"), slice(None), 1)
    zero(model.get_parameter("two.weight"), slice(None), [0, 4])
    smaller = fr.compact(model, (X,))
    assert sorted(smaller.report.removed.values()) == [1, 2]
    check(model, smaller, X)


def test_pruned_as_by_torch() -> None:
    model = mlp()
    prune.ln_structured(model[0], "weight", amount=2, n=2, dim=0)
    prune.remove(model[0], "weight")
    smaller = fr.compact(model, (X,))
    assert smaller.report.removed_units == 2
    check(model, smaller, X)


def test_one_unit_is_left_of_a_block_that_nothing_reads() -> None:
    model = mlp()
    zero(model.get_parameter("2.weight"), ...)
    smaller = fr.compact(model, (X,))
    assert smaller.report.removed == {"0.weight[0]": 5}
    assert "one has to be left" in smaller.report.notes[0]
    check(model, smaller, X)


def test_nothing_to_cut() -> None:
    model = mlp()
    smaller = fr.compact(model, (X,))
    assert (smaller.report.removed, smaller.report.notes) == ({}, ())
    assert all(torch.equal(smaller.state_dict()[n], t) for n, t in model.state_dict().items())
    assert str(smaller.report).startswith("0 units of 0 blocks removed; 38 -> 38 parameters")


def test_biases_of_zero_say_nothing() -> None:
    model = mlp()
    zero(model.get_parameter("0.bias"), ...)
    assert fr.compact(model, (X,)).report.removed == {}


def test_the_model_and_its_surroundings_are_left_as_they_were() -> None:
    model = made(Stream).train()
    zero(model.get_parameter("up.weight"), 1)
    before = Snapshot(model, (X,))
    smaller = fr.compact(model, (X,))
    before.check()
    assert smaller.training
    zero(smaller.get_parameter("stem.weight"), ...)
    before.check()


def test_what_is_frozen_or_tied_stays_so() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(3, 6, bias=False), nn.Linear(3, 6, bias=False)
            self.decoder.weight = self.encoder.weight
            self.encoder.weight.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(torch.tanh(self.encoder(x)), self.decoder.weight.t())

    model = made(Tied)
    zero(model.get_parameter("encoder.weight"), 2)
    smaller = fr.compact(model, (X,))
    assert smaller.report.removed == {"encoder.weight[0]": 1}
    encoder, decoder = (smaller.get_submodule(n).weight for n in ("encoder", "decoder"))
    assert encoder is decoder
    assert not encoder.requires_grad
    check(model, smaller, X)


def test_only_the_blocks_of_a_given_symmetry_are_cut() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))
    zero(model.get_parameter("0.weight"), 1)
    zero(model.get_parameter("2.weight"), 3)
    assert len(fr.compact(model, (X,)).report.removed) == 2
    constraints = [fr.pin("0.weight", 0)]
    symmetry = fr.analyze(model, (X,), constraints=constraints)
    assert set(fr.compact(model, (X,), symmetry=symmetry).report.removed) == {"2.weight[0]"}
    found = fr.compact(model, (X,), constraints=constraints).report
    assert set(found.removed) == {"2.weight[0]"}


def test_the_symmetry_of_another_model_is_refused() -> None:
    other = nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 2))
    with pytest.raises(ArchitectureMismatchError):
        fr.compact(mlp(), (X,), symmetry=fr.analyze(other, (X,)))


def test_a_model_without_a_graph_is_copied() -> None:
    class Branching(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = super().forward(x if x.sum() > 1e9 else -x)
            return y

    model = Branching(*mlp())
    zero(model.get_parameter("2.weight"), slice(None), 1)
    same = fr.compact(model, (X,), front_ends=["eager"])
    assert isinstance(same, Branching)
    assert "no front end gives a graph" in same.report.notes[0]
    check(model, same, X)


def test_a_smaller_module_can_be_copied_saved_and_trained() -> None:
    model = mlp()
    zero(model.get_parameter("2.weight"), slice(None), [1, 4])
    smaller = fr.compact(model, (X,))
    for copied in (copy.deepcopy(smaller), pickle.loads(pickle.dumps(smaller))):
        assert torch.equal(copied(X), smaller(X))
    smaller(X).sum().backward()
    assert all(p.grad is not None for p in smaller.parameters())


@pytest.mark.parametrize("front_end", ["symbolic_trace", "export"])
def test_a_norm_over_many_units_feels_that_one_is_gone(front_end: fr.FrontEnd) -> None:
    """By less than what float32 forgives."""
    norm = nn.RMSNorm(20_000, elementwise_affine=False)
    model = nn.Sequential(nn.Linear(3, 20_000), norm, nn.Linear(20_000, 2))
    zero(model.get_parameter("0.weight"), 7)
    zero(model.get_parameter("0.bias"), 7)
    report = fr.compact(model, (X,), front_ends=[front_end]).report
    assert report.removed == {}
    assert "computes something else" in report.notes[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_in_other_precisions(dtype: torch.dtype) -> None:
    model = mlp(nn.Tanh).to(dtype)
    zero(model.get_parameter("0.weight"), [0, 2])
    smaller = fr.compact(model, (X.to(dtype),))
    assert smaller.report.removed == {"0.weight[0]": 2}
    assert {p.dtype for p in smaller.parameters()} == {dtype}


def test_the_report_says_what_was_done() -> None:
    model = mlp(nn.Tanh)
    zero(model.get_parameter("0.weight"), [0, 2])
    text = str(fr.compact(model, (X,)).report)
    assert text.splitlines()[:2] == [
        "2 units of 1 blocks removed; 38 -> 26 parameters (31.6% less)",
        "constants went into 1 biases",
    ]
    assert "verified: relative output error" in text
