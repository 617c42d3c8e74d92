"""Units of zeros in the networks whose groups are known: what goes, and what has to stay."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from networks import NETWORKS
from torch import nn

import fxrebasin as fr
from benchmarks.compact.zeros import draw_units, zero_units
from benchmarks.measuring.random_weights import difference, evaluate, randomise

torch.set_num_threads(1)

SHARE = 0.4

CUT = [
    "mlp",
    "residual_mlp",
    "residual_to_the_input",
    "batch_norm_mlp",
    "ConcatOfBranches",
    "SumOfBranches",
    "SomeHiddenFeaturesAreAnOutput",
    "BilinearForm",
    "BilinearLayer",
    "OuterProduct",
    "TiedLinears",
    "Siamese",
    "HiddenAutoencoder",
    "SlicedParameter",
    "spectrally_normalised_mlp",
    "convolution_flattened",
    "convolution_pooled_and_flattened",
    "convolution_1d",
    "DenseConnections",
    "SqueezeExcite",
    "grouped_convolution",
    "depthwise_convolution",
    "depthwise_convolution_with_multiplier",
    "grouped_convolutions_in_a_row",
    "transposed_convolution",
    "grouped_transposed_convolution",
    "prelu_per_channel",
    "ResidualConvolutions",
    "SkipConcatenation",
    "flipped",
    "halves_treated_differently",
    "gated_linear_unit",
    "SwiGlu",
    "in_place_activations",
    "attention_by_einsum",
    "attention_from_a_fused_projection",
    "attention_from_a_fused_projection_per_head",
    "TalkingHeads",
    "rotary_attention",
    "grouped_query_attention_by_torch",
    "TokenMixing",
    "embedded_tokens",
    "lstm",
    "lstm_of_two_layers_both_ways",
    "gru_of_two_layers",
]
"""As many units as were set to zero go, of every block."""

STAYS = [
    "layer_norm_mlp",
    "rms_norm_mlp",
    "statistics_over_units",
    "group_norm_of_one_group",
    "layer_norm_of_images",
    "softmax_over_units",
    "log_softmax_over_units",
    "sorted_units",
    "top_units",
    "rolled",
    "channel_shuffle",
    "torch_attention",
]
"""A statistic is taken over the units, their places count, or a constant cannot be changed."""

IN_PART = {
    "largest_over_units": (1, 1),
    "group_norm": (2, 1),
    "grouped_query_attention_by_repeating": (4, 3),
    "HiddenFeaturesAreAnOutput": (1, 1),
    "MixtureOfExperts": (2, 1),
}
"""Of the blocks with units of zeros, so many become smaller."""


@cache
def pruned(name: str) -> tuple[nn.Module, fr.Symmetry, fr.RebasedModule]:
    """A model with units of zeros, its group, and what is left of it."""
    network = NETWORKS[name]
    torch.manual_seed(0)
    model = network.factory()
    symmetry = fr.analyze(model, args=network.inputs(2))
    zero_units(randomise(model), symmetry, draw_units(symmetry, SHARE))
    before = {n: t.clone() for n, t in model.state_dict().items()}
    smaller = fr.compact(model, args=inputs(name), symmetry=symmetry)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    return model, symmetry, smaller


def inputs(name: str) -> tuple[torch.Tensor, ...]:
    given = NETWORKS[name].inputs(4)
    return tuple(x.double() if x.is_floating_point() else x for x in given)


@pytest.mark.parametrize("name", [*CUT, *STAYS, *IN_PART])
def test_the_function_stays_and_no_tensor_grows(name: str) -> None:
    model, _, smaller = pruned(name)
    for batch in (4, 3):
        given = tuple(x[:batch] for x in inputs(name))
        expected = evaluate(copy.deepcopy(model), given)
        assert difference(evaluate(smaller, given), expected) < 1e-10
    before = model.state_dict()
    assert list(smaller.state_dict()) == list(before)
    for key, tensor in smaller.state_dict().items():
        assert all(n <= m for n, m in zip(tensor.shape, before[key].shape, strict=True)), key


@pytest.mark.parametrize("name", CUT)
def test_as_many_units_go_as_were_set_to_zero(name: str) -> None:
    model, symmetry, smaller = pruned(name)
    gone = {b.name: min(int(SHARE * b.size), b.size - 1) for b in symmetry}
    assert dict(smaller.report.removed) == {n: count for n, count in gone.items() if count}
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", STAYS)
def test_what_cannot_be_cut_exactly_stays_and_a_note_says_so(name: str) -> None:
    model, _, smaller = pruned(name)
    assert smaller.report.removed == {}
    assert len(smaller.report.notes) >= 1
    assert smaller.report.parameters_after == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", IN_PART)
def test_some_blocks_can_be_cut_and_others_cannot(name: str) -> None:
    _, symmetry, smaller = pruned(name)
    with_zeros = sum(1 for b in symmetry if int(SHARE * b.size))
    assert (with_zeros, len(smaller.report.removed)) == IN_PART[name]
