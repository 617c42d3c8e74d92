"""Permutations: a group, how it acts on models and state dicts, and its files."""

from __future__ import annotations

import copy
import json
import os
import random
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import NETWORKS
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin import Block, Permutation, Segment, Symmetry
from fxrebasin.errors import ArchitectureMismatchError, FileFormatError, InvalidArgumentError
from fxrebasin.symmetry.parts import AxisGroup, ParameterSymmetry

torch.set_num_threads(1)

repeatable = settings(derandomize=True, deadline=None, max_examples=40)
seeds = st.integers(0, 2**31)


class Nested(nn.Module):
    """Grouped convolutions (wreath products), a BatchNorm, an unused layer, a tied head."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 3)
        self.enter = nn.Conv2d(3, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.grouped = nn.Conv2d(6, 9, 1, groups=3)
        self.mix = nn.Conv2d(9, 4, 1)
        self.one, self.two = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.two.weight = self.one.weight
        self.leave = nn.Conv2d(4, 2, 1)
        self.register_buffer("mask", torch.tensor([3, 1, 2]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.norm(self.enter(x)).relu()).relu()
        x = self.mix(x).relu()
        x = self.two(self.one(x).relu()).relu()
        return self.leave(x)


IMAGES = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))


@cache
def nested() -> tuple[nn.Module, Symmetry]:
    torch.manual_seed(0)
    model = randomise(Nested())
    return model, fr.analyze(model, args=(IMAGES.double(),))


def sample(symmetry: Symmetry, seed: int) -> Permutation:
    return Permutation.random(symmetry, torch.Generator().manual_seed(seed))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


def test_the_model_has_nested_blocks() -> None:
    """Else the laws below say little."""
    _, symmetry = nested()
    sizes = sorted((b.size, b.count) for b in symmetry)
    assert sizes == [(2, 3), (3, 1), (3, 3), (4, 1)]


# the group


@repeatable
@given(seeds)
def test_the_inverse_undoes(seed: int) -> None:
    model, symmetry = nested()
    p = sample(symmetry, seed)
    assert p.compose(p.inverse()).is_identity
    assert p.inverse().compose(p).is_identity
    assert p.inverse().inverse() == p
    state = model.state_dict()
    assert same(p.inverse().apply(p.apply(state)), dict(state))


@repeatable
@given(seeds, seeds)
def test_composing_is_applying_one_after_the_other(first: int, second: int) -> None:
    model, symmetry = nested()
    p, q = sample(symmetry, first), sample(symmetry, second)
    state = model.state_dict()
    assert same(p.compose(q).apply(state), p.apply(q.apply(state)))
    assert p.compose(q).inverse() == q.inverse().compose(p.inverse())


@repeatable
@given(seeds, seeds, seeds)
def test_composing_is_associative(first: int, second: int, third: int) -> None:
    _, symmetry = nested()
    p, q, r = (sample(symmetry, seed) for seed in (first, second, third))
    assert p.compose(q).compose(r) == p.compose(q.compose(r))


@repeatable
@given(seeds)
def test_the_identity_changes_nothing(seed: int) -> None:
    model, symmetry = nested()
    e, p = Permutation.identity(symmetry), sample(symmetry, seed)
    assert e.is_identity
    assert e.moved_units == 0
    assert e.compose(p) == p == p.compose(e)
    state = model.state_dict()
    assert same(e.apply(state), dict(state))
    assert (p == e) == p.is_identity


@repeatable
@given(seeds)
def test_flat_indices_keep_children_with_their_parents(seed: int) -> None:
    _, symmetry = nested()
    p = sample(symmetry, seed)
    for block in symmetry:
        flat = p.flat(block.name)
        assert sorted(flat.tolist()) == list(range(block.units))
        if block.parent:
            above = flat.reshape(block.count, block.size) // block.size
            assert (above == p.flat(block.parent)[:, None]).all()


@repeatable
@given(seeds)
def test_the_function_is_unchanged(seed: int) -> None:
    model, symmetry = nested()
    moved = sample(symmetry, seed).apply_to(model)
    inputs = (IMAGES.double(),)
    assert difference(evaluate(moved, inputs), evaluate(model, inputs)) < 1e-12


def test_permutations_of_other_symmetries_cannot_be_composed() -> None:
    _, symmetry = nested()
    other = fr.analyze(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), args=(torch.zeros(1, 2),))
    with pytest.raises(InvalidArgumentError, match="same symmetry"):
        Permutation.identity(symmetry).compose(Permutation.identity(other))


def test_permutations_are_compared_by_value() -> None:
    _, symmetry = nested()
    assert sample(symmetry, 1) == sample(symmetry, 1)
    assert sample(symmetry, 1) != sample(symmetry, 2)
    assert sample(symmetry, 1) != 1
    assert hash(sample(symmetry, 1)) == hash(sample(symmetry, 1))


def test_equal_indices_of_other_blocks_are_another_permutation() -> None:
    one = Symmetry({"a": Block("a", 3), "b": Block("b", 2)}, ())
    nested = Symmetry({"a": Block("a", 3), "b": Block("b", 2, "a", 3)}, ())
    alone = replace(one, blocks={"a": Block("a", 3), "b": Block("b", 2, axes=(("w", 0),))})
    noted = replace(one, notes=("found elsewhere",))
    assert Permutation.identity(one) != Permutation.identity(nested)
    assert Permutation.identity(one) != Permutation.identity(alone)
    assert Permutation.identity(one) == Permutation.identity(noted)


def test_what_is_printed() -> None:
    _, symmetry = nested()
    p = sample(symmetry, 1)
    assert 0 < p.moved_units <= symmetry.movable_units
    assert repr(p) == f"Permutation({p.moved_units} of {symmetry.movable_units} units moved)"


# making


def test_indices_must_be_of_exactly_the_blocks() -> None:
    _, symmetry = nested()
    indices = dict(Permutation.identity(symmetry).indices)
    name, index = indices.popitem()
    with pytest.raises(InvalidArgumentError) as caught:
        Permutation(symmetry, indices)
    assert repr(name) in str(caught.value)
    with pytest.raises(InvalidArgumentError, match="'another'"):
        Permutation(symmetry, {**indices, name: index, "another": index})


@pytest.mark.parametrize("damage", ["repeated", "too large", "shape", "kind"])
def test_indices_must_be_permutations(damage: str) -> None:
    _, symmetry = nested()
    indices = dict(Permutation.identity(symmetry).indices)
    name = next(b.name for b in symmetry if b.count > 1)
    wrong = indices[name].copy()
    if damage == "repeated":
        wrong[0, 0] = wrong[0, 1]
    elif damage == "too large":
        wrong[0, 0] = wrong.shape[1]
    elif damage == "shape":
        wrong = wrong.ravel()
    else:
        wrong = wrong.astype(np.float64)
    indices[name] = wrong
    with pytest.raises(InvalidArgumentError) as caught:
        Permutation(symmetry, indices)
    assert repr(name) in str(caught.value)


# acting on state dicts


@pytest.mark.parametrize("name", ["attention_by_einsum", "lstm", "TiedLanguageModel", "group_norm"])
def test_state_dicts_and_modules_are_permuted_alike(name: str) -> None:
    model = randomise(NETWORKS[name].factory())
    symmetry = fr.analyze(NETWORKS[name].factory(), args=NETWORKS[name].inputs(2))
    p = sample(symmetry, 4)
    assert not p.is_identity
    assert same(dict(p.apply_to(model).state_dict()), p.apply(model.state_dict()))


def test_a_state_dict_is_not_changed() -> None:
    model, symmetry = nested()
    state = model.state_dict()
    before = copy.deepcopy(dict(state))
    moved = sample(symmetry, 1).apply(state)
    assert same(dict(state), before)
    assert list(moved) == list(state)
    assert not same(moved, before)
    changed = {k for k in moved if moved[k] is not state[k]}
    storages = {state[k].data_ptr() for k in changed}
    assert not storages & {moved[k].data_ptr() for k in changed}


def test_a_state_dict_keeps_the_versions_of_its_modules() -> None:
    """BatchNorm, like modules of torchvision, looks for them when it is loaded."""
    model, symmetry = nested()
    state = model.state_dict()
    moved = sample(symmetry, 1).apply(state)
    assert type(moved) is type(state)
    assert vars(moved) == vars(state)
    assert vars(moved)["_metadata"]["norm"] == {"version": 2}
    assert vars(sample(symmetry, 1).apply(moved)) == vars(state)


def test_a_module_that_asks_for_its_version_can_load_what_was_permuted() -> None:
    torch.manual_seed(0)
    model = torchvision.models.mnasnet0_5(num_classes=4).eval()
    symmetry = fr.analyze(model, args=(torch.zeros(1, 3, 32, 32),), check=False)
    permutation = sample(symmetry, 1)
    assert not permutation.is_identity
    moved = permutation.apply(model.state_dict())
    assert not model.load_state_dict(moved).missing_keys
    assert same(dict(model.state_dict()), dict(moved))


def test_any_mapping_of_tensors_is_permuted() -> None:
    model, symmetry = nested()
    state = dict(model.state_dict())
    moved = sample(symmetry, 1).apply(MappingProxyType(state))
    assert type(moved) is dict
    assert same(moved, sample(symmetry, 1).apply(state))


def test_the_order_of_a_state_dict_is_kept() -> None:
    model, symmetry = nested()
    state = dict(reversed(list(model.state_dict().items())))
    assert list(sample(symmetry, 1).apply(state)) == list(state)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]
)
def test_dtypes_are_kept(dtype: torch.dtype) -> None:
    model, symmetry = nested()
    p = sample(symmetry, 2)
    state = {k: t.to(dtype) if t.is_floating_point() else t for k, t in model.state_dict().items()}
    moved = p.apply(state)
    for name, tensor in moved.items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, p.apply(model.state_dict())[name].to(tensor.dtype))
    assert moved["mask"].dtype == moved["norm.num_batches_tracked"].dtype == torch.int64
    assert moved["mask"].tolist() == [3, 1, 2]


def test_tied_tensors_stay_tied() -> None:
    model, symmetry = nested()
    p = sample(symmetry, 3)
    state = model.state_dict()
    moved = p.apply(state)
    assert moved["one.weight"] is moved["two.weight"]
    assert not torch.equal(moved["one.weight"], state["one.weight"])
    whole = p.apply_to(model)
    assert whole.get_parameter("one.weight") is whole.get_parameter("two.weight")


def test_untied_copies_of_a_tied_tensor_move_alike() -> None:
    """As read from a file that does not know of ties."""
    model, symmetry = nested()
    state = {k: t.clone() for k, t in model.state_dict().items()}
    moved = sample(symmetry, 3).apply(state)
    assert torch.equal(moved["one.weight"], moved["two.weight"])
    assert moved["one.weight"].data_ptr() != moved["two.weight"].data_ptr()


def test_parts_of_a_state_dict_can_be_permuted() -> None:
    model, symmetry = nested()
    p = sample(symmetry, 3)
    state = model.state_dict()
    some = {k: state[k] for k in ("enter.weight", "mask")}
    moved = p.apply({**some, "other": torch.ones(3)})
    assert torch.equal(moved["enter.weight"], p.apply(state)["enter.weight"])
    assert moved["other"].tolist() == [1, 1, 1]


def test_gradients_do_not_flow_into_the_original() -> None:
    model, symmetry = nested()
    moved = sample(symmetry, 3).apply(dict(model.named_parameters()))
    assert not moved["enter.weight"].requires_grad


def test_another_shape_is_refused() -> None:
    model, symmetry = nested()
    state = dict(model.state_dict())
    state["enter.weight"] = torch.zeros(7, 3, 1, 1)
    with pytest.raises(ArchitectureMismatchError) as caught:
        sample(symmetry, 1).apply(state)
    for part in ("'enter.weight'", "(7, 3, 1, 1)", "(6, 3, 1, 1)"):
        assert part in str(caught.value)


# acting on modules


def test_a_module_is_copied_with_its_methods_and_hooks() -> None:
    model = Nested()
    calls: list[int] = []
    model.leave.register_forward_hook(lambda *_: calls.append(1))
    before = copy.deepcopy(model.state_dict())
    moved = sample(nested()[1], 1).apply_to(model)
    assert type(moved) is Nested
    assert same(dict(model.state_dict()), dict(before))
    moved(IMAGES)
    assert calls == [1]
    assert all(p.requires_grad for p in moved.parameters())


def test_in_place_the_parameters_stay_the_same_objects() -> None:
    model = Nested()
    parameters = {n: (id(p), p.data_ptr()) for n, p in model.named_parameters()}
    p = sample(nested()[1], 1)
    expected = p.apply(copy.deepcopy(model.state_dict()))
    assert p.apply_(model) is None
    assert {n: (id(q), q.data_ptr()) for n, q in model.named_parameters()} == parameters
    assert same(dict(model.state_dict()), expected)


def test_tensors_of_any_strides_are_permuted() -> None:
    model, symmetry = nested()
    p = sample(symmetry, 1)
    strided = copy.deepcopy(model).to(memory_format=torch.channels_last)
    assert same(dict(p.apply_to(strided).state_dict()), p.apply(model.state_dict()))


def test_a_module_without_the_parameter_is_refused() -> None:
    model = Nested()
    del model.enter
    with pytest.raises(ArchitectureMismatchError, match=r"'enter\.\w+'"):
        sample(nested()[1], 1).apply_(model)


def test_a_module_that_is_refused_is_not_changed() -> None:
    model = Nested()
    model.leave = nn.Conv2d(5, 2, 1)
    before = copy.deepcopy(dict(model.state_dict()))
    with pytest.raises(ArchitectureMismatchError, match=r"leave\.weight"):
        sample(nested()[1], 1).apply_(model)
    assert same(dict(model.state_dict()), before)


# files


@pytest.mark.parametrize("seed", [0, 1])
def test_files_round_trip(seed: int, tmp_path: Path) -> None:
    model, symmetry = nested()
    p = sample(symmetry, seed)
    p.save(tmp_path / "p.safetensors")
    for path in (tmp_path / "p.safetensors", str(tmp_path / "p.safetensors")):
        back = Permutation.load(path)
        assert back == p
        assert back.symmetry == symmetry
        assert same(back.apply(model.state_dict()), p.apply(model.state_dict()))
    assert [f.name for f in tmp_path.iterdir()] == ["p.safetensors"]


def test_a_file_of_nothing(tmp_path: Path) -> None:
    symmetry = fr.analyze(nn.Linear(2, 2), args=(torch.zeros(1, 2),))
    Permutation.identity(symmetry).save(tmp_path / "p")
    assert Permutation.load(tmp_path / "p") == Permutation.identity(symmetry)


def test_a_file_has_the_rights_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"")
    Permutation.identity(nested()[1]).save(tmp_path / "p")
    assert os.stat(tmp_path / "p").st_mode == os.stat(tmp_path / "other").st_mode


@pytest.mark.parametrize("exists", [False, True])
def test_a_half_written_file_never_stays(
    exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, symmetry = nested()
    path = tmp_path / "p.safetensors"
    if exists:
        sample(symmetry, 0).save(path)

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the disk is full"):
        sample(symmetry, 1).save(path)
    assert [f.name for f in tmp_path.iterdir()] == (["p.safetensors"] if exists else [])
    if exists:
        assert Permutation.load(path) == sample(symmetry, 0)


def test_a_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("interrupted")

    monkeypatch.setattr("fxrebasin.symmetry.transform.pack", fail)
    with pytest.raises(OSError, match="interrupted"):
        Permutation.identity(nested()[1]).save(tmp_path / "p")
    assert not list(tmp_path.iterdir())


def test_saving_replaces_what_was_there(tmp_path: Path) -> None:
    _, symmetry = nested()
    for seed in (0, 1):
        sample(symmetry, seed).save(tmp_path / "p")
    assert Permutation.load(tmp_path / "p") == sample(symmetry, 1)


def test_no_file() -> None:
    with pytest.raises(FileNotFoundError):
        Permutation.load("/nowhere/at/all")


def test_files_of_something_else(tmp_path: Path) -> None:
    _, symmetry = nested()
    good = {
        name: np.ascontiguousarray(i) for name, i in Permutation.identity(symmetry).indices.items()
    }
    metadata = {"symmetry": symmetry.to_json()}
    first = next(iter(good))
    (tmp_path / "garbage").write_bytes(b"\x00" * 100)
    (tmp_path / "empty").write_bytes(b"")
    Permutation.identity(symmetry).save(tmp_path / "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-5])
    torch.save({"a": 1}, tmp_path / "pickle")
    save_file(good, tmp_path / "no metadata")
    save_file(good, tmp_path / "another format", {"format": "fxrebasin.permutation/99"})
    save_file(good, tmp_path / "no symmetry", {"symmetry": json.dumps({"format": "other"})})
    save_file({k: v for k, v in good.items() if k != first}, tmp_path / "a block less", metadata)
    save_file({**good, first: good[first] * 0}, tmp_path / "no permutation", metadata)
    save_file({**good, first: good[first].astype(np.float32)}, tmp_path / "no integers", metadata)
    (tmp_path / "whole").unlink()
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(FileFormatError) as caught:
            Permutation.load(path)
        text = str(caught.value)
        assert text.startswith(f"'{path}' is not a permutation saved by fxrebasin: "), path.name
        assert text.endswith("write it again with Permutation.save"), path.name


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="expected a file to read, found a folder"):
        Permutation.load(tmp_path)
    with pytest.raises(IsADirectoryError, match="expected the name of a file to write, found a"):
        Permutation.identity(nested()[1]).save(tmp_path)


def test_files_from_before_there_were_digests_are_still_read(tmp_path: Path) -> None:
    _, symmetry = nested()
    p = sample(symmetry, 0)
    content = json.loads(symmetry.to_json())
    content["format"] = "fxrebasin.symmetry/2"
    del content["digest"]
    tensors = {name: np.ascontiguousarray(i) for name, i in p.indices.items()}
    save_file(tensors, tmp_path / "old", {"symmetry": json.dumps(content)})
    back = Permutation.load(tmp_path / "old")
    assert back == p
    assert back.symmetry == symmetry


def test_indices_that_changed_places_are_seen(tmp_path: Path) -> None:
    _, symmetry = nested()
    path = tmp_path / "p"
    sample(symmetry, 0).save(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = next(name for name in tensors if name.startswith("indices."))
    save_file({**tensors, name: np.ascontiguousarray(tensors[name][:, ::-1])}, path, metadata)
    with pytest.raises(FileFormatError, match="the file was changed after it was written"):
        Permutation.load(path)
    save_file({k: v for k, v in tensors.items() if k != name}, path, metadata)
    with pytest.raises(FileFormatError, match="the file was changed after it was written"):
        Permutation.load(path)


def damaged(right: bytes, rng: random.Random) -> bytes:
    """Another byte, one that is gone, two that changed places, a piece that is doubled."""
    i, j = rng.randrange(len(right)), rng.randrange(len(right) - 8)
    data = bytearray(right)
    kind = rng.randrange(5)
    if kind == 0:
        data[i] = rng.randrange(256)
    elif kind == 1:
        del data[i]
    elif kind == 2:
        data[i], data[j] = data[j], data[i]
    elif kind == 3:
        data[j + 4 : j + 8] = data[j : j + 4]
    else:  # in the header, where a byte says most
        data[rng.randrange(400)] = ord(rng.choice("0123456789"))
    return bytes(data)


def test_no_random_damage_is_taken_for_another_permutation(tmp_path: Path) -> None:
    _, symmetry = nested()
    p, path, rng = sample(symmetry, 0), tmp_path / "p", random.Random(0)
    p.save(path)
    right = path.read_bytes()
    for _ in range(500):
        wrong = damaged(right, rng)
        path.write_bytes(wrong)
        try:
            back = Permutation.load(path)
        except FileFormatError:
            assert wrong != right
        else:
            assert wrong == right
            assert back == p and back.symmetry == symmetry


def test_a_symmetry_of_any_size_is_saved(tmp_path: Path) -> None:
    """The header of a file may have 100 MB; this one's positions alone would have more."""
    n = 8_000_000
    moves = Segment(("rows",), np.arange(n).reshape(2, -1), (-1,))
    tensors = [ParameterSymmetry((k,), (n,), False, (AxisGroup((0,), (moves,)),)) for k in "ab"]
    p = sample(Symmetry({"rows": Block("rows", 2)}, tuple(tensors)), 0)
    p.save(tmp_path / "p")
    back = Permutation.load(tmp_path / "p")
    assert back == p
    assert back.symmetry == p.symmetry


def test_the_permutation_of_another_model_is_refused(tmp_path: Path) -> None:
    _, symmetry = nested()
    drawn = sample(symmetry, 0)
    drawn.save(tmp_path / "p")
    again = fr.analyze(randomise(Nested()), args=(IMAGES.double(),))
    assert Permutation.load(tmp_path / "p", symmetry=again) == drawn
    other = fr.analyze(nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 2)), args=(torch.zeros(1, 2),))
    with pytest.raises(ArchitectureMismatchError, match=r"p' is a permutation of another model"):
        Permutation.load(tmp_path / "p", symmetry=other)


def test_a_digest_is_of_what_goes_where() -> None:
    _, symmetry = nested()
    one, other = sample(symmetry, 0), sample(symmetry, 1)
    assert one.digest == sample(symmetry, 0).digest
    assert len({one.digest, other.digest, one.inverse().digest}) == 3
    assert Symmetry.from_json(symmetry.to_json()).fingerprint == symmetry.fingerprint
