"""Ops that few networks use: what each leaves free, in a network around it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.ao.quantization as ao
import torch.nn.functional as F
from networks import f, real
from reliability import Case, Cases, X, check
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import fxrebasin as fr

torch.set_num_threads(1)

OPS, MATRICES, WRITES, WINDOWS, SEQUENCES = (Cases() for _ in range(5))

EIGHT, SEQUENCE, LONG = real(3)(8), real(4, 3)(2), real(8, 3)(2)
FRONT_ENDS = "export", "eager"


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)


# entry by entry, or with a sum of them


@OPS.model(f(6))
class LogSigmoid(TwoLayers):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.logsigmoid(self.first(x)))


@OPS.hidden(f(6))
def filled_with_a_tensor(h: Tensor) -> Tensor:
    return h.masked_fill(h > 0, h.sum())


@OPS.hidden(f(6))
def entries_are_counted(h: Tensor) -> Tensor:
    return h * torch.count_nonzero(h, dim=1)[:, None] + torch.count_nonzero(h > 0)


@OPS.hidden(f(6))
def sum_without_nan(h: Tensor) -> Tensor:
    return h * torch.nansum(h, 1, keepdim=True) * h.nansum()


@OPS.hidden(f(6))
def losses_inside(h: Tensor) -> Tensor:
    """One loss for all entries scales them, and losses per entry are added."""
    each = F.smooth_l1_loss(h, h.cos(), reduction="none") + F.huber_loss(h, h.exp())
    return h * F.mse_loss(h, h.sin()) + each


@OPS.hidden(f(6))
def lists_of_tensors(h: Tensor) -> Tensor:
    first, second = torch._foreach_mul([h, h.sin()], [h.cos(), h])
    return first + torch._foreach_add([second], 1.0)[0]


@OPS.model(f(6) + f(30), real(3)(30))
class ManyDistances(nn.Module):
    """From every input to every key; with more than 25 of both, another op computes them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(30, 2)
        self.keys = nn.Parameter(torch.randn(30, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cdist(self.first(x), self.keys))


@OPS.hidden(f(4), m=4)
def copy_of_some_features(h: Tensor) -> Tensor:
    """The other two are not read."""
    return torch.narrow_copy(h, 1, 1, 4)


@OPS.hidden(f(3), m=3)
def taken_by_number(h: Tensor) -> Tensor:
    """Of the flattened tensor, so that all rows are given three entries of the first."""
    return torch.take(h, torch.arange(3).expand(4, 3))


@OPS.hidden(f(6))
def turned_by_a_right_angle(h: Tensor) -> Tensor:
    return torch.rot90(h).t()


@OPS.model(f(6), torch.tensor([[1, 2, 3], [0, 5, 4]]))
class EmbeddingOfBoundedNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 6, max_norm=0.5), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x).tanh())


@OPS.hidden(f(6))
def quantised_with_one_scale(h: Tensor) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(h, 0.1, 3, 0, 15)


@pytest.mark.parametrize("case", OPS.each())
def test_entry_by_entry(case: Case) -> None:
    check(case)


# matrices made of the hidden units


def correlation(h: Tensor) -> Tensor:
    return h.t() @ h.sin()


@MATRICES.hidden(f(6))
def trace(h: Tensor) -> Tensor:
    return h * torch.trace(correlation(h))


@MATRICES.hidden(f(6), EIGHT)
def inverse(h: Tensor) -> Tensor:
    return h @ torch.linalg.inv(correlation(h))


@MATRICES.hidden(f(6), EIGHT)
def pseudoinverse(h: Tensor) -> Tensor:
    return h @ torch.linalg.pinv(correlation(h))


@MATRICES.hidden(f(6), EIGHT)
def system_of_equations(h: Tensor) -> Tensor:
    return torch.linalg.solve(correlation(h), h.t()).t()


@MATRICES.hidden(f(6))
def exponential(h: Tensor) -> Tensor:
    return h @ torch.linalg.matrix_exp(correlation(h))


@MATRICES.hidden(f(6), EIGHT)
def determinant(h: Tensor) -> Tensor:
    """Rows and columns are the same units, so that its sign is kept."""
    return h * torch.linalg.det(correlation(h))


@MATRICES.model(2 * f(6))
class VolumeOfALayer(TwoLayers):
    """As in a flow, where the logarithm of the determinant of a weight is added up."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed = nn.Parameter(torch.linalg.qr(torch.randn(6, 6))[0])

    def forward(self, x: Tensor) -> Tensor:
        volume = torch.linalg.slogdet(self.mixed)[1]
        return self.head((self.first(x) @ self.mixed).tanh()) + volume


@MATRICES.model(f(6))
class SignedVolumeOfALayer(VolumeOfALayer):
    """A row of the weight may not change places with another, which would turn the sign; where
    its columns are the units behind it, and the sign is read, those stay as well."""

    def forward(self, x: Tensor) -> Tensor:
        sign = torch.linalg.slogdet(self.mixed)[0]
        return self.head(self.first(x).tanh()) + sign


@MATRICES.hidden(f(6), EIGHT)
def singular_values(h: Tensor) -> Tensor:
    return h * torch.linalg.svdvals(h).sum()


@MATRICES.hidden(0.0, EIGHT)
def singular_vectors(h: Tensor) -> Tensor:
    """Their signs depend on the order."""
    return torch.linalg.svd(h, full_matrices=False).Vh.abs()


@MATRICES.hidden(f(6))
def root_of_a_matrix_per_unit(h: Tensor) -> Tensor:
    matrices = h.exp()[:, :, None, None] * torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    return torch.linalg.cholesky(matrices)[..., 1, 1]


@MATRICES.hidden(f(6))
def diagonal_of_the_hidden_units(h: Tensor) -> Tensor:
    return (torch.diag_embed(h.exp()) @ h.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize("case", MATRICES.each())
def test_matrices(case: Case) -> None:
    check(case)


# written where a mask is true

IDS, IMAGE = torch.tensor([[1, 2, 3, 1], [0, 1, 4, 5]]), real(3)(3)


class TokensAndImage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.see = nn.Embedding(7, 6), nn.Linear(3, 6)
        self.head = nn.Linear(6, 2)


@WRITES.model(f(6), IDS, IMAGE)
class ScatteredImage(TokensAndImage):
    """The features of the text and of the image are one stream."""

    def forward(self, ids: Tensor, image: Tensor) -> Tensor:
        text = self.embed(ids)
        mask = (ids == 1).unsqueeze(-1).expand_as(text)
        return self.head(text.masked_scatter(mask, self.see(image)).tanh())


@WRITES.model(f(6), IDS, IMAGE)
class AssignedImage(TokensAndImage):
    def forward(self, ids: Tensor, image: Tensor) -> Tensor:
        text = self.embed(ids).clone()
        text[ids == 1] = self.see(image)
        return self.head(text.tanh())


class ConstantMask(TwoLayers):
    def __init__(self, *mask: bool) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor(mask))


@WRITES.model(f(6))
class AssignedRows(ConstantMask):
    def __init__(self) -> None:
        super().__init__(False, True, False, True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h[self.mask] = h[:2].cos()
        return self.head(h)


@WRITES.model(0.0)
class AssignedFeatures(ConstantMask):
    """Features that are written over are told apart from the others one by one."""

    def __init__(self) -> None:
        super().__init__(*[True, False] * 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h[:, self.mask] = 1.0
        return self.head(h)


@pytest.mark.parametrize("case", WRITES.each())
def test_written_where_a_mask_is_true(case: Case) -> None:
    check(case)


# windows


@WINDOWS.model(f(6))
class OneTap(TwoLayers):
    """A convolution over the features that mixes none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Conv1d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.scale(self.first(x)[:, None])[:, 0].tanh())


@WINDOWS.hidden(f(6), m=12)
def pooled_along_another_axis(h: Tensor) -> Tensor:
    stacked = torch.stack([h, h.sin(), h.cos(), h], 1)[:, None]
    return F.avg_pool2d(stacked, (2, 1))[:, 0].flatten(1)


@WINDOWS.hidden(f(3) + 3 * f(2), m=3)
def pairs_of_features_pooled(h: Tensor) -> Tensor:
    return F.max_pool1d(h[:, None], 2)[:, 0]


@WINDOWS.hidden(f(6))
def largest_of_all_features(h: Tensor) -> Tensor:
    return h * F.adaptive_max_pool1d(h, 1)


@WINDOWS.hidden(0.0)
def windows_of_features_overlap(h: Tensor) -> Tensor:
    return h + F.max_pool1d(h[:, None], 3, 1, 1)[:, 0]


@WINDOWS.hidden(f(6), LONG)
def windows_over_time_by_strides(h: Tensor) -> Tensor:
    batch, length, width = h.shape
    steps = (length * width, 2 * width, width, 1)
    return h.contiguous().as_strided((batch, 3, 4, width), steps).mean(2)


@WINDOWS.hidden(f(3) + 3 * f(2), m=3)
def halves_by_strides(h: Tensor) -> Tensor:
    return h.contiguous().as_strided((4, 2, 3), (6, 3, 1)).sum(1)


@WINDOWS.hidden(f(6))
def strides_of_a_transposed_tensor(h: Tensor) -> Tensor:
    """Strides go through memory, which holds rows of hidden units all the same."""
    return h.t().as_strided((4, 6), (6, 1))


@WINDOWS.hidden(f(6))
def strides_that_are_changed_in_place(h: Tensor) -> Tensor:
    """As pooling to one value does with images whose channels come last."""
    restrided = 1 * h
    restrided.as_strided_((6, 4), (1, 6))
    return restrided.t()


@pytest.mark.parametrize("case", WINDOWS.each())
def test_windows(case: Case) -> None:
    check(case)


# sequences


class Packed(nn.Module):
    def __init__(self, kind: Callable[..., nn.RNNBase], directions: int) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.layer = kind(5, 4, bidirectional=directions == 2, batch_first=True)
        self.head = nn.Linear(4 * directions, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        packed = nn.utils.rnn.pack_padded_sequence(h, torch.tensor([4, 3]), batch_first=True)
        found, _ = self.layer(packed)
        padded, _ = nn.utils.rnn.pad_packed_sequence(found, batch_first=True)
        return self.head(padded)


@SEQUENCES.model(f(5) + 2 * f(4), SEQUENCE)
def packed_lstm_of_two_directions() -> nn.Module:
    return Packed(nn.LSTM, 2)


@SEQUENCES.model(f(5) + f(4), SEQUENCE)
def packed_gru() -> nn.Module:
    return Packed(nn.GRU, 1)


class JumpingKnowledge(nn.Module):
    """A recurrent layer over the layers of a network, which share their features, weighs them."""

    def __init__(self, kind: Callable[..., nn.RNNBase], layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.layers = nn.ModuleList(nn.Linear(5, 5) for _ in range(layers - 1))
        self.over = kind(5, 4, bidirectional=True, batch_first=True)
        self.weigh, self.head = nn.Linear(8, 1), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.first(x).tanh()]
        for layer in self.layers:
            found.append(layer(found[-1]).tanh())
        stacked = torch.stack(found, 1)
        weights = self.weigh(self.over(stacked)[0]).softmax(1)
        return self.head((stacked * weights).sum(1))


@SEQUENCES.model(f(5) + 2 * f(4))
def lstm_over_two_layers() -> nn.Module:
    return JumpingKnowledge(nn.LSTM, 2)


@SEQUENCES.model(f(5) + 2 * f(4))
def gru_over_three_layers() -> nn.Module:
    return JumpingKnowledge(nn.GRU, 3)


@pytest.mark.parametrize("case", SEQUENCES.each())
def test_sequences(case: Case) -> None:
    check(case)


# quantisation in training, whose ops take no doubles


def quantised(observer: type[ao.ObserverBase], weights: Any, *, observes: bool) -> nn.Module:
    torch.manual_seed(1)
    layers = [nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 2)]
    model: Any = nn.Sequential(*layers).train()
    model.qconfig = ao.QConfig(ao.FakeQuantize.with_args(observer=observer), weights)
    ao.prepare_qat(model, inplace=True)
    model(real(3)(20))
    if not observes:
        model.apply(ao.disable_observer)
    quantising: nn.Module = model.eval()
    return quantising


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@pytest.mark.parametrize("observes", [True, False])
@pytest.mark.parametrize(
    "weights",
    [
        ao.default_weight_fake_quant,
        ao.default_fused_wt_fake_quant,
        ao.default_per_channel_weight_fake_quant,
        ao.default_fused_per_channel_wt_fake_quant,
    ],
    ids=["per tensor", "fused, per tensor", "per channel", "fused, per channel"],
)
def test_quantisation_in_training(weights: Any, observes: bool) -> None:
    model = quantised(ao.MovingAverageMinMaxObserver, weights, observes=observes)
    symmetry = fr.analyze(model, args=(X,))
    assert symmetry.log_order == pytest.approx(f(8) + f(7))
    assert not symmetry.unknown_ops
    with torch.no_grad():
        expected = copy.deepcopy(model)(X)
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            moved = fr.Permutation.random(symmetry, generator).apply_to(model)
            torch.testing.assert_close(moved(X), expected)


# many processes, or as here one


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    store = torch._C._distributed_c10d.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(3, 8), nn.BatchNorm1d(8)
        self.second, self.head = nn.Linear(8, 7), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.norm(self.first(x)).tanh()).tanh())


class Summed(Normed):
    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(x))
        distributed.all_reduce(h)
        return self.head(self.second(h.tanh()).tanh())


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("make", [lambda: DistributedDataParallel(Normed()), Summed])
def test_what_processes_exchange_belongs_to_the_same_units(make: Callable[[], nn.Module]) -> None:
    """Statistics are sent to all before each forward pass."""
    model = make().eval()
    symmetry = fr.analyze(model, args=(X,))
    assert symmetry.log_order == pytest.approx(f(8) + f(7))
    assert not symmetry.unknown_ops
    state = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1)).apply(
        model.state_dict()
    )
    expected = model(X)
    model.load_state_dict(state)
    torch.testing.assert_close(model(X), expected)


# by every way to trace


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("cases", [OPS, MATRICES, WRITES, WINDOWS])
def test_the_front_ends_agree(cases: Cases, front_end: fr.FrontEnd) -> None:
    for case in cases.values():
        symmetry = fr.analyze(case.factory(), args=case.inputs, front_ends=(front_end,))
        assert symmetry.log_order == pytest.approx(case.log_order), case.name
        assert not symmetry.unknown_ops, case.name
