"""Canonical weights: the function stays, and all of one orbit have the same."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from kinds_by_hand import CASES, Decoder, Encoder
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.canonical.balance import held_by_block
from fxrebasin.canonical.canonicalise import absorb
from fxrebasin.canonical.held import places
from fxrebasin.errors import ArchitectureMismatchError, InvalidParameterError
from fxrebasin.models.precision import in_double, largest_error, to_double
from fxrebasin.models.running import run
from fxrebasin.verification.random_weights import disturb

State = dict[str, Tensor]

NOT_ATTAINED = {
    "linear",
    "norms of queries and keys",
    "the same without weights",
    "attention of torch",
}
"""Linear layers with more units between them than what reads them has: some units are read by
nobody, and would shrink without end."""


def prepared(name: str) -> tuple[nn.Module, tuple[Tensor, ...], fr.Symmetry]:
    """A network of the list in float64, all of whose weights are random."""
    torch.manual_seed(0)
    case = CASES[name]
    model, inputs = case.make(), case.inputs()
    symmetry = fr.analyze(model, inputs)
    model = to_double(model).eval()
    disturb(model, 0, [p.name for p in symmetry.parameters if p.groups])
    return model, in_double(inputs), symmetry


def error(model: nn.Module, state: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> float:
    before = run(model, inputs, {})
    kept = {name: t.clone() for name, t in model.state_dict().items()}
    model.load_state_dict(state)
    after = run(model, inputs, {})
    model.load_state_dict(kept)
    return largest_error(before, after)


def spectra(symmetry: fr.Symmetry, state: State, *, scales: bool) -> dict[str, Tensor]:
    """What permutations, signs and rotations leave as it is: per block, eigenvalues of Gram
    matrices, or norms, sorted."""
    found = {}
    for name, held in held_by_block(symmetry, {*state}, scales=scales).items():
        for k, one in enumerate(held):
            if not one.parameter.is_buffer:
                x = one.take(state[one.parameter.name]).flatten(2)
                by_unit = x.square().sum(2).sort(dim=1)[0]
                mixes = symmetry.kinds.of(name).kind.mix > 0
                values = torch.linalg.eigvalsh(x @ x.mT) if mixes else by_unit
                found[f"{name} {k}"] = values[values.sum(1).argsort()]
    return found


@pytest.mark.parametrize("scales", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_what_is_computed_stays_and_one_orbit_has_one_form(name: str, scales: bool) -> None:
    model, inputs, symmetry = prepared(name)
    state = model.state_dict()
    made = fr.canonicalise(symmetry, state, scales=scales)
    assert list(made) == list(state)
    assert error(model, made, inputs) < 1e-10
    for absorption in symmetry.kinds.absorptions:
        assert (made[absorption.vector] == 1).all()
    absorbed = absorb(symmetry, state)
    generator = torch.Generator().manual_seed(1)
    other = fr.Transform.random(symmetry, generator, scales=scales).apply(absorbed)
    again = fr.canonicalise(symmetry, other, scales=scales)
    assert error(model, again, inputs) < 1e-10
    if name not in NOT_ATTAINED:
        one, two = (spectra(symmetry, s, scales=scales) for s in (made, again))
        for key in one:
            torch.testing.assert_close(one[key], two[key], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_least_norms_are_least(name: str) -> None:
    """What any matrix may act on is no larger than it was, and the norm is the same both ways."""
    model, _, symmetry = prepared(name)
    state = absorb(symmetry, model.state_dict())
    made = fr.canonicalise(symmetry, state, scales=True)
    moved = {one.parameter.name for _, one in places(symmetry) if not one.parameter.is_buffer}
    before, after = (sum(s[n].square().sum() for n in moved) for s in (state, made))
    assert after <= before * (1 + 1e-12)


def test_means_that_no_one_reads_are_taken_away() -> None:
    model, _, symmetry = prepared("ViT")
    made = fr.canonicalise(symmetry, model.state_dict())
    centred = {place[0] for place in symmetry.kinds.centred}
    writers = {"attention.out.weight", "attention.out.bias", "mlp.2.weight", "mlp.2.bias"}
    assert centred == writers | {"places", "token", "embed.weight", "embed.bias"}
    for name in writers | {"embed.weight", "embed.bias"}:
        assert made[name].mean(dim=0).abs().max() < 1e-15, name
    for name in ("places", "token"):
        assert made[name].mean(dim=-1).abs().max() < 1e-15, name
    state = model.state_dict()
    for k in range(3):  # biases come after the norm; they are divided by its weight
        expected = state[f"norms.{k}.bias"] / state[f"norms.{k}.weight"]
        torch.testing.assert_close(made[f"norms.{k}.bias"], expected)


@pytest.mark.parametrize("name", ["tied GPT", "an encoder layer, norms last"])
def test_streams_that_cannot_be_rotated_are_left_alone(name: str) -> None:
    model, _, symmetry = prepared(name)
    assert not symmetry.kinds.centred
    made = fr.canonicalise(symmetry, model.state_dict())
    norms = [n for n in made if "norm" in n]
    assert norms
    for key in norms:
        assert torch.equal(made[key], model.state_dict()[key])


def test_weights_of_norms_of_queries_are_left_alone() -> None:
    model, _, symmetry = prepared("norms of queries and keys")
    made = fr.canonicalise(symmetry, model.state_dict())
    for key in ("0.norms.0.weight", "0.norms.1.weight"):
        assert torch.equal(made[key], model.state_dict()[key])


def test_a_bias_that_another_norm_takes_is_centred() -> None:
    """It comes after its norm, and what reads it is a norm again."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = nn.Linear(3, 8), nn.Linear(8, 2)
            self.one, self.two = nn.LayerNorm(8), nn.LayerNorm(8)

        def forward(self, x: Tensor) -> Tensor:
            return self.leave(self.two(self.one(self.enter(x))))

    torch.manual_seed(0)
    x = torch.randn(4, 3)
    model = Twice()
    symmetry = fr.analyze(model, (x,))
    assert {p[0] for p in symmetry.kinds.centred} <= {"enter.weight", "enter.bias", "one.bias"}
    disturb(model, 0, [p.name for p in symmetry.parameters if p.groups])
    made = fr.canonicalise(symmetry, model)
    torch.testing.assert_close(made(x), model(x), rtol=1e-5, atol=1e-5)


def test_layer_scales_are_absorbed_and_not_centred() -> None:
    """They multiply what a layer writes to the stream, unit by unit."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.inside, self.leave = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)
            self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(2))
            self.scale = nn.Parameter(torch.randn(8))

        def forward(self, x: Tensor) -> Tensor:
            h = self.enter(x)
            h = h + self.scale * self.inside(self.norms[0](h))
            return self.leave(self.norms[1](h))

    torch.manual_seed(0)
    model, x = Scaled(), torch.randn(5, 4)
    symmetry = fr.analyze(model, (x,))
    layers = {f"{name}.{part}" for name in ("enter", "inside") for part in ("weight", "bias")}
    assert {place[0] for place in symmetry.kinds.centred} == layers
    made = fr.canonicalise(symmetry, model)
    assert (made.scale == 1).all()
    torch.testing.assert_close(made(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dividing", [False, True])
def test_several_weights_of_one_norm_are_absorbed_by_their_readers(dividing: bool) -> None:
    """By whole powers of them: they may be negative. Only what is read without one is divided."""

    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.norm = nn.Linear(4, 8), nn.RMSNorm(8, elementwise_affine=False)
            self.gains = nn.ParameterList(torch.randn(8) for _ in range(2))
            self.leave = nn.ModuleList(nn.Linear(8, 2) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(self.enter(x))
            y = self.leave[0](self.gains[0] * h) + self.leave[1](self.gains[1] * h)
            return y + self.leave[2](h) if dividing else y

    torch.manual_seed(0)
    model, x = Parallel(), torch.randn(5, 4)
    if not dividing:
        del model.leave[2]
    symmetry = fr.analyze(model, (x,))
    assert [kind.kind.name for kind in symmetry.kinds.blocks.values()] == ["O"]
    absorbed = {a.vector: a.readers for a in symmetry.kinds.absorptions}
    for k in range(2):
        assert absorbed[f"gains.{k}"] == {
            (f"gains.{k}", 0, 0, 0): (-1,),
            (f"leave.{k}.weight", 0, 0, 0): (1,),
        }
    made = fr.canonicalise(symmetry, model)
    torch.testing.assert_close(made(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_are_kept_and_rounded_once(dtype: torch.dtype) -> None:
    model, _, symmetry = prepared("GPT")
    state = {k: v.to(dtype) for k, v in model.state_dict().items()}
    before = {k: v.clone() for k, v in state.items()}
    made = fr.canonicalise(symmetry, state)
    wide = fr.canonicalise(symmetry, {k: v.double() for k, v in state.items()})
    for name, tensor in made.items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, wide[name].to(dtype))
        assert torch.equal(state[name], before[name])


def test_modules_keep_their_class_and_are_not_changed() -> None:
    model, inputs, symmetry = prepared("Llama")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    made = fr.canonicalise(symmetry, model)
    assert type(made) is Decoder
    assert list(made.state_dict()) == list(before)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in made.parameters())
    assert largest_error(run(model, inputs, {}), run(made, inputs, {})) < 1e-12


def test_tied_tensors_stay_tied() -> None:
    model, _, symmetry = prepared("tied GPT")
    made = fr.canonicalise(symmetry, model)
    same = [made.get_parameter(f"{name}.weight") for name in ("head", "tokens")]
    assert same[0] is same[1]
    state = fr.canonicalise(symmetry, model.state_dict(), scales=True)
    assert state["head.weight"].data_ptr() == state["tokens.weight"].data_ptr()


@pytest.mark.parametrize("name", ["GPT", "Llama"])
def test_weights_of_norms_may_be_zero(name: str) -> None:
    model, inputs, symmetry = prepared(name)
    with torch.no_grad():
        model.get_parameter("norms.1.weight")[3] = 0
        model.get_parameter("norms.2.weight").zero_()
        if name == "GPT":
            model.get_parameter("norms.1.bias")[3] = 0
            model.get_parameter("norms.2.bias").zero_()
    made = fr.canonicalise(symmetry, model)
    assert all(torch.isfinite(p).all() for p in made.parameters())
    assert largest_error(run(model, inputs, {}), run(made, inputs, {})) < 1e-12


def test_where_a_weight_is_zero_and_its_bias_is_not_a_norm_cannot_be_absorbed() -> None:
    model, _, symmetry = prepared("GPT")
    with torch.no_grad():
        model.get_parameter("norms.1.weight")[3] = 0
    expected = (
        r"'norms\.1\.weight' cannot be absorbed: expected no zero where 'norms\.1\.bias' has none, "
        r"found one at unit 3 of .*group='signed'"
    )
    with pytest.raises(InvalidParameterError, match=expected):
        fr.canonicalise(symmetry, model)


@pytest.mark.parametrize("dead", ["queries", "all of a head", "half of the queries' directions"])
def test_heads_that_compute_nothing_are_not_stretched_without_end(dead: str) -> None:
    model, inputs, symmetry = prepared("GPT")
    weight, bias = (model.get_parameter(f"attentions.0.enter.0.{n}") for n in ("weight", "bias"))
    with torch.no_grad():
        if dead == "queries":
            weight[:4], bias[:4] = 0, 0
        elif dead == "all of a head":
            for k in (0, 12, 24):
                weight[k : k + 4], bias[k : k + 4] = 0, 0
            model.get_parameter("attentions.0.out.weight")[:, :4] = 0
        else:
            weight[2:4], bias[2:4] = weight[:2], bias[:2]
    made = fr.canonicalise(symmetry, model)
    largest = max(float(p.detach().abs().max()) for p in made.parameters())
    assert largest < 1e3
    assert largest_error(run(model, inputs, {}), run(made, inputs, {})) < 1e-10


def test_what_a_state_lacks_is_said() -> None:
    model, _, symmetry = prepared("GPT")
    state = model.state_dict()
    del state["norms.0.weight"]
    with pytest.raises(ArchitectureMismatchError, match=r"norms\.0\.weight"):
        fr.canonicalise(symmetry, state)
    state = {**model.state_dict(), "norms.0.weight": torch.ones(7)}
    with pytest.raises(ArchitectureMismatchError, match=r"expected shape \(12,\).*found \(7,\)"):
        fr.canonicalise(symmetry, state)


def test_a_symmetry_that_was_read_knows_what_to_do() -> None:
    torch.manual_seed(0)
    model, x = Encoder(norm_first=True), torch.randn(2, 4, 5)
    symmetry = fr.analyze(model, (x,))
    read = fr.Symmetry.from_json(symmetry.to_json())
    assert read.kinds.centred == symmetry.kinds.centred
    one, other = (fr.canonicalise(s, model.state_dict()) for s in (symmetry, read))
    assert all(torch.equal(one[k], other[k]) for k in one)
