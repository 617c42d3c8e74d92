"""Transforms: elements of the whole group, how they act on models and state dicts, their files."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds_by_hand import CASES
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin import Permutation, Symmetry, Transform
from fxrebasin.errors import FileFormatError, InvalidArgumentError, InvalidParameterError

repeatable = settings(derandomize=True, deadline=None, max_examples=8)
seeds = st.integers(0, 2**31)

NETWORKS = ("relu", "tanh", "linear", "GPT", "Llama", "a depthwise convolution", "LSTM", "ViT")
every_network = pytest.mark.parametrize("name", NETWORKS)


@cache
def network(name: str) -> tuple[nn.Module, tuple[Tensor, ...], Symmetry]:
    """In float64; the weights of norms, which are one, stay so, and all others are random."""
    torch.manual_seed(0)
    case = CASES[name]
    model, inputs = case.make().double().eval(), case.inputs()
    inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        norm.running_var = torch.rand_like(norm.weight).detach() + 0.5
        norm.running_mean = torch.randn_like(norm.weight).detach()
    return model, inputs, fr.analyze(model, inputs, check=False)


def sample(symmetry: Symmetry, seed: int, group: str = "linear") -> Transform:
    generator = torch.Generator().manual_seed(seed)
    return Transform.random(symmetry, generator, group=group, scales=True)  # type: ignore[arg-type]


def farthest(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    assert list(a) == list(b)
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


# the group


@every_network
@repeatable
@given(seeds)
def test_the_function_is_unchanged(name: str, seed: int) -> None:
    model, inputs, symmetry = network(name)
    transform = sample(symmetry, seed)
    assert not transform.is_identity
    with torch.no_grad():
        before, after = model(*inputs), transform.apply_to(model)(*inputs)
    assert float((before - after).abs().max() / before.abs().max()) < 1e-12


@every_network
@repeatable
@given(seeds)
def test_the_inverse_undoes(name: str, seed: int) -> None:
    model, _, symmetry = network(name)
    g, state = sample(symmetry, seed), model.state_dict()
    assert farthest(g.inverse().apply(g.apply(state)), state) < 1e-12
    assert farthest(g.compose(g.inverse()).apply(state), state) < 1e-12
    assert farthest(g.inverse().compose(g).apply(state), state) < 1e-12


@every_network
@repeatable
@given(seeds, seeds)
def test_composing_is_applying_one_after_the_other(name: str, first: int, second: int) -> None:
    model, _, symmetry = network(name)
    g, p, state = sample(symmetry, first), sample(symmetry, second), model.state_dict()
    q = Permutation.random(symmetry, torch.Generator().manual_seed(second))
    for then, before in ((g, p), (g, q), (q, g)):
        at_once = then.compose(before)
        assert type(at_once) is Transform
        assert farthest(at_once.apply(state), then.apply(before.apply(state))) < 1e-12
    assert type(q.compose(q)) is Permutation


def test_what_has_indices_only_is_what_the_permutation_is() -> None:
    model, _, symmetry = network("GPT")
    p = Permutation.random(symmetry, torch.Generator().manual_seed(0))
    plain = Transform(symmetry, p.indices)
    drawn = Transform.random(symmetry, torch.Generator().manual_seed(0), group="permutations")
    assert plain == p == drawn
    assert hash(plain) == hash(p)
    assert plain.moved_units == p.moved_units
    assert same(plain.apply(model.state_dict()), p.apply(model.state_dict()))
    assert plain.compose(plain.inverse()) == Transform.identity(symmetry)
    assert isinstance(p, Transform)


def test_what_does_nothing_is_left_out() -> None:
    _, _, symmetry = network("linear")
    (block,) = symmetry
    plain = Transform.identity(symmetry)
    same = Transform(symmetry, plain.indices, matrices={block.name: torch.eye(10)[None]})
    assert same == plain
    assert not same.matrices
    assert sample(symmetry, 0) != plain


def test_signs_alone_are_drawn_where_there_is_nothing_else() -> None:
    for name, has_signs in (("tanh", True), ("SwiGLU", False), ("linear", False)):
        drawn = sample(network(name)[2], 1, "signed")
        assert bool(drawn.signs) is has_signs
        assert not drawn.log_scales
        assert not drawn.matrices


def test_scales_are_drawn_on_request_only() -> None:
    _, _, symmetry = network("SwiGLU")
    drawn = Transform.random(symmetry, torch.Generator().manual_seed(0))
    assert drawn.signs
    assert not drawn.log_scales
    assert sample(symmetry, 0).log_scales


def test_what_is_printed() -> None:
    _, _, symmetry = network("relu")
    assert repr(sample(symmetry, 0)) == "Transform(18 of 18 units moved, 2 of 2 blocks scaled)"
    _, _, symmetry = network("GPT")
    mixed = "1 of 7 blocks scaled"
    assert mixed not in repr(sample(symmetry, 0))
    assert repr(Transform.identity(symmetry)).startswith("Transform(0 of ")


def test_variances_scale_together_with_what_is_added_to_them() -> None:
    norm = nn.BatchNorm1d(2, eps=0.5)
    model = nn.Sequential(nn.Linear(3, 2), norm, nn.Linear(2, 1)).eval()
    symmetry = fr.analyze(model, (torch.zeros(1, 3),))
    kind = symmetry.kinds.of("0.weight[0]")
    logs = torch.zeros(kind.scales, 1, 2)
    logs[:, 0, 0] = torch.tensor([0.5, 0.25])
    still = Transform.identity(symmetry).indices
    moved = Transform(symmetry, still, log_scales={"0.weight[0]": logs}).apply(model.state_dict())
    before, after = model.state_dict()["1.running_var"] + 0.5, moved["1.running_var"] + 0.5
    ratio = moved["0.weight"][0] / model.state_dict()["0.weight"][0]
    assert torch.allclose(after[0], before[0] * ratio[0] ** 2)
    assert after[1] == before[1]


# how it acts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.complex64])
def test_signs_are_exact(dtype: torch.dtype) -> None:
    model, _, symmetry = network("tanh")
    state = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    g = sample(symmetry, 3, "signed")
    moved = g.apply(state)
    assert all(moved[name].dtype == dtype for name in state)
    assert not same(moved, state)
    assert same(g.inverse().apply(moved), state)


@every_network
def test_state_dicts_and_modules_move_alike(name: str) -> None:
    model, _, symmetry = network(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    g = sample(symmetry, 0)
    moved = g.apply_to(model)
    assert same(g.apply(model.state_dict()), moved.state_dict())
    assert same(before, model.state_dict())
    assert not same(before, moved.state_dict())
    parameters = list(moved.parameters())
    g.inverse().apply_(moved)
    assert all(p is q for p, q in zip(parameters, moved.parameters(), strict=True))
    assert farthest(moved.state_dict(), before) < 1e-12


def test_tied_tensors_stay_tied() -> None:
    model, _, symmetry = network("tied GPT")
    moved = sample(symmetry, 0).apply(model.state_dict())
    assert moved["head.weight"].data_ptr() == moved["tokens.weight"].data_ptr()


def test_matrices_are_rounded_once() -> None:
    model, _, symmetry = network("linear")
    g = sample(symmetry, 0)
    exact = g.apply(model.state_dict())
    single = {name: tensor.float() for name, tensor in model.state_dict().items()}
    for name, tensor in g.apply(single).items():
        size = float(exact[name].abs().max())
        assert tensor.dtype == torch.float32
        assert float((tensor - exact[name]).abs().max()) < 1e-6 * size


def test_norms_that_are_not_absorbed_are_refused() -> None:
    model, _, symmetry = network("GPT")
    state = dict(model.state_dict())
    state["norms.1.weight"] = state["norms.1.weight"] * 2
    with pytest.raises(InvalidArgumentError, match=r"'norms.1.weight' has to be one, .*canonicali"):
        sample(symmetry, 0).apply(state)
    changed = sample(symmetry, 0, "permutations").apply_to(model)
    changed.load_state_dict(state)
    before = {k: v.clone() for k, v in changed.state_dict().items()}
    with pytest.raises(InvalidArgumentError, match=r"'norms.1.weight' has to be one"):
        sample(symmetry, 0).apply_(changed)
    assert same(before, changed.state_dict())
    Permutation.random(symmetry).apply(state)


UNUSABLE: dict[str, tuple[Callable[[Tensor], object], type[Exception]]] = {
    "meta": (lambda t: t.to("meta"), InvalidParameterError),
    "sparse": (lambda t: t.to_sparse(), InvalidParameterError),
    "arrays": (lambda t: t.numpy(), InvalidArgumentError),
    "whole numbers": (lambda t: t.int(), InvalidArgumentError),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_tensors_that_cannot_be_mixed_are_refused(what: str) -> None:
    change, error = UNUSABLE[what]
    model, _, symmetry = network("GPT")
    state: dict[str, Any] = {name: change(t) for name, t in model.state_dict().items()}
    with pytest.raises(error):
        sample(symmetry, 0).apply(state)


def test_surroundings_make_no_difference() -> None:
    model, _, symmetry = network("Llama")
    state = model.state_dict()
    g, h = sample(symmetry, 0), sample(symmetry, 1)
    expected = g.apply(state), g.compose(h), g.inverse(), sample(symmetry, 2)
    autocast = torch.autocast("cpu", torch.bfloat16)
    for around in (torch.device("meta"), torch.inference_mode(), autocast):
        with around:
            found = g.apply(state), g.compose(h), g.inverse(), sample(symmetry, 2)
            moved = g.moved_units
        assert same(expected[0], found[0])
        assert expected[1:] == found[1:]
        assert moved == g.moved_units
    for again in (copy.deepcopy(g), pickle.loads(pickle.dumps(g))):
        assert again == g


# what it is made of


EYE = torch.eye(10)

WRONG: dict[str, tuple[str, dict[str, object], str]] = {
    "signs of what has none": ("gelu", {"signs": np.ones((1, 1, 10), int)}, "changes signs"),
    "scales of what has none": ("tanh", {"log_scales": torch.ones(1, 1, 10)}, "scales units"),
    "matrices of what is not mixed": ("tanh", {"matrices": EYE[None]}, "mixes units"),
    "signs of 2": ("tanh", {"signs": np.full((1, 1, 10), 2)}, "of 0 and 1"),
    "signs as a tensor": ("tanh", {"signs": torch.ones(1, 1, 10)}, "an array of numpy"),
    "one row of signs": ("tanh", {"signs": np.ones(10, int)}, r"of shape \(1, 1, 10\)"),
    "a matrix as an array": ("linear", {"matrices": np.eye(10)[None]}, "a tensor of finite"),
    "one matrix too few": ("linear", {"matrices": EYE}, r"of shape \(1, 10, 10\)"),
    "nan": ("linear", {"matrices": torch.nan * EYE[None]}, "nan or infinite"),
    "no inverse": ("linear", {"matrices": torch.ones(1, 10, 10)}, "that have an inverse"),
    "no rotation": ("distances", {"matrices": 2 * torch.eye(4)[None]}, "orthogonal"),
}


@pytest.mark.parametrize("part", WRONG)
def test_what_is_no_element_is_refused(part: str) -> None:
    name, given, text = WRONG[part]
    _, _, symmetry = network(name)
    block = next(b for b in symmetry if b.size == (4 if name == "distances" else 10))
    indices = Transform.identity(symmetry).indices
    parts: dict[str, Any] = {which: {block.name: value} for which, value in given.items()}
    with pytest.raises(InvalidArgumentError, match=text):
        Transform(symmetry, indices, **parts)
    unknown: dict[str, Any] = {which: {"none": 1} for which in parts}
    with pytest.raises(InvalidArgumentError, match="blocks of the symmetry, which has"):
        Transform(symmetry, indices, **unknown)


def test_rotations_that_do_not_keep_ones_are_refused() -> None:
    _, _, symmetry = network("GPT")
    (stream,) = (b for b in symmetry if symmetry.kinds.of(b.name).kind.ones)
    turned = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(0)))[0]
    indices = Transform.identity(symmetry).indices
    with pytest.raises(InvalidArgumentError, match="rows and columns sum up to 1"):
        Transform(symmetry, indices, matrices={stream.name: turned[None]})


def test_a_matrix_and_a_permutation_of_one_block_are_refused() -> None:
    _, _, symmetry = network("linear")
    g = sample(symmetry, 0)
    turned = {name: rows[:, ::-1].copy() for name, rows in g.indices.items()}
    with pytest.raises(InvalidArgumentError, match="put the permutation into matrices"):
        Transform(symmetry, turned, matrices=g.matrices)


def test_transforms_of_other_symmetries_cannot_be_composed() -> None:
    with pytest.raises(InvalidArgumentError, match="only transforms of the same symmetry"):
        sample(network("relu")[2], 0).compose(sample(network("tanh")[2], 0))


# files


@every_network
def test_files_round_trip(name: str, tmp_path: Path) -> None:
    model, _, symmetry = network(name)
    g = sample(symmetry, 0)
    g.save(tmp_path / "g.safetensors")
    back = Transform.load(tmp_path / "g.safetensors")
    assert back == g
    assert back.symmetry == symmetry
    assert same(back.apply(model.state_dict()), g.apply(model.state_dict()))


def test_permutations_are_read_as_either(tmp_path: Path) -> None:
    _, _, symmetry = network("tanh")
    p = Permutation.random(symmetry, torch.Generator().manual_seed(0))
    p.save(tmp_path / "p")
    assert Transform.load(tmp_path / "p") == p == Permutation.load(tmp_path / "p")
    Transform(symmetry, p.indices).save(tmp_path / "p")
    assert Permutation.load(tmp_path / "p") == p


def test_what_more_than_permutes_is_not_read_as_a_permutation(tmp_path: Path) -> None:
    sample(network("tanh")[2], 0).save(tmp_path / "g")
    with pytest.raises(FileFormatError, match=r"found signs as well; read it with Transform\.load"):
        Permutation.load(tmp_path / "g")


def test_a_file_whose_kinds_contradict_its_symmetry_is_refused(tmp_path: Path) -> None:
    """It has a digest, and was written by something that forgot a factor."""
    symmetry = network("linear")[2]
    factors = dict(list(symmetry.kinds.factors.items())[1:])
    wrong = replace(symmetry, known_kinds=replace(symmetry.kinds, factors=factors))
    g = sample(symmetry, 0)
    Transform(wrong, g.indices, matrices=g.matrices).save(tmp_path / "g")
    with pytest.raises(FileFormatError, match=r"of a larger kind: expected a factor at"):
        Transform.load(tmp_path / "g")


def test_no_flipped_bit_is_taken_for_another_transform(tmp_path: Path) -> None:
    g, path, rng = sample(network("Llama")[2], 0), tmp_path / "g", random.Random(0)
    g.save(path)
    right = path.read_bytes()
    for _ in range(100):
        changed = bytearray(right)
        changed[rng.randrange(len(right))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(FileFormatError, match="is not a transform saved by fxrebasin"):
            Transform.load(path)
