"""What every merge method keeps to, and what sets each of them apart."""

from __future__ import annotations

import itertools
import random
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_pairs import random_pair, random_states
from small_convolutional import Net, X
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise
from fxrebasin.errors import (
    ArchitectureMismatchError,
    ConvergenceWarning,
    InvalidArgumentError,
    InvalidParameterError,
)
from fxrebasin.merging.merge_methods import (
    MergeMethod,
    cycle_consistent,
    fisher_weighted,
    many,
    mean,
    sequential,
    to_reference,
    tree,
)

torch.set_num_threads(1)

State = dict[str, Tensor]
NAMES = ("residual_mlp", "grouped_convolution", "torch_attention", "lstm")
ALIGNING: dict[str, MergeMethod] = {
    "to_reference": to_reference,
    "sequential": sequential,
    "many": many,
    "many as in the paper": partial(many, in_turn=False),
    "tree": tree,
    "cycle_consistent": partial(cycle_consistent, steps=5),
    "frank_wolfe": partial(many, solver=partial(fr.solvers.frank_wolfe, steps=5, max_rounds=2)),
}
METHODS: dict[str, MergeMethod] = {"mean": mean, **ALIGNING}
RISING = ("many", "many as in the paper", "cycle_consistent")


def random_models(name: str, count: int) -> tuple[fr.Symmetry, list[State]]:
    """The group of a network, and state dicts that have nothing to do with each other."""
    symmetry, states = random_states(name, count)
    return symmetry, list(states)


def copies(symmetry: fr.Symmetry, state: State, count: int, seed: int = 3) -> list[State]:
    """A model, and some of its permutations."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (fr.Permutation.random(symmetry, generator) for _ in range(count - 1))
    return [state, *(permutation.apply(state) for permutation in drawn)]


def averaged(states: Sequence[State], weights: Sequence[float]) -> State:
    total = sum(weights)
    return {
        name: sum((s[name].double() * (w / total) for s, w in zip(states, weights, strict=True)),
                  start=torch.zeros(()))
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }  # fmt: skip


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], rtol: float = 0.0) -> None:
    assert list(one) == list(other)
    for name in one:
        scale = rtol * float(other[name].abs().max()) if other[name].numel() else 0.0
        assert torch.allclose(one[name].double(), other[name].double(), rtol=0, atol=scale), name


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_the_mean_of_the_permuted_models(name: str, method: MergeMethod) -> None:
    symmetry, models = random_models(name, 4)
    before = [{n: t.clone() for n, t in model.items()} for model in models]
    weights = [1, 2.5, 0, 3]
    merged = method(symmetry, models, weights=weights, progress=False)
    moved = [p.apply(model) for p, model in zip(merged.permutations, models, strict=True)]
    assert_same(merged.state_dict, averaged(moved, weights), 1e-14)
    assert merged.permutations[0].is_identity
    for model, kept in zip(models, before, strict=True):
        assert_same(model, kept)
    again = method(symmetry, models, weights=weights, progress=False)
    assert again.permutations == merged.permutations
    assert again.history == merged.history


@pytest.mark.parametrize("method", ALIGNING.values(), ids=ALIGNING)
@pytest.mark.parametrize("name", NAMES)
def test_copies_of_one_model_merge_to_that_model(name: str, method: MergeMethod) -> None:
    symmetry, a, _ = random_pair(name)
    models = copies(symmetry, a, 5)
    merged = method(symmetry, models, weights=[3, 1, 1, 2, 1], progress=False)
    assert_same(merged.state_dict, a)
    norm = sum(
        float(a[p.name].square().sum()) for p in symmetry.parameters if p.groups and not p.is_buffer
    )
    assert merged.history[-1] == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_two_models_with_the_first_are_match_and_mean(name: str) -> None:
    symmetry, a, b = random_pair(name)
    merged = to_reference(symmetry, [a, b], progress=False)
    found = fr.match(symmetry, b, to=a, progress=False)
    assert merged.permutations[1] == found
    assert_same(merged.state_dict, averaged([a, found.apply(b)], [1, 1]), 1e-14)


@pytest.mark.parametrize("method", [ALIGNING[name] for name in RISING], ids=RISING)
@pytest.mark.parametrize("name", NAMES)
def test_the_objective_never_falls_and_is_that_of_the_mean(name: str, method: MergeMethod) -> None:
    symmetry, models = random_models(name, 4)
    merged = method(symmetry, models, progress=False)
    assert list(merged.history) == sorted(merged.history)
    compared = [p.name for p in symmetry.parameters if p.groups and not p.is_buffer]

    def spread(states: Sequence[Mapping[str, Tensor]]) -> float:
        """The mean of the squared distances from the mean."""
        middle = averaged([dict(s) for s in states], [1] * len(states))
        return sum(float((s[n] - middle[n]).square().sum()) for s in states for n in compared) / 4

    moved = [p.apply(model) for p, model in zip(merged.permutations, models, strict=True)]
    fallen = spread(models) - spread(moved)
    assert merged.history[-1] - merged.history[0] == pytest.approx(fallen, rel=1e-9)
    assert fallen > 0


@pytest.mark.parametrize("name", NAMES)
def test_no_model_alone_can_be_improved_any_more(name: str) -> None:
    symmetry, models = random_models(name, 3)
    merged = many(symmetry, models, progress=False)
    moved = [p.apply(model) for p, model in zip(merged.permutations, models, strict=True)]
    for k, model in enumerate(moved):
        others = averaged([other for j, other in enumerate(moved) if j != k], [1, 1])
        objective = fr.objectives.weights(symmetry, model, others)
        start = fr.Permutation.identity(symmetry)
        found = fr.solvers.coordinate_descent(objective, start=start, progress=False)
        assert found.objective_after == pytest.approx(found.objective_before, rel=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_models_does_not_matter_in_a_universe(name: str) -> None:
    symmetry, models = random_models(name, 4)
    weights = [1.0, 2.0, 1.0, 1.0]
    universe = ALIGNING["cycle_consistent"]
    merged = universe(symmetry, models, weights=weights, progress=False)
    order = [2, 0, 3, 1]
    other = universe(
        symmetry, [models[k] for k in order], weights=[weights[k] for k in order], progress=False
    )
    back = merged.permutations[order[0]].inverse()
    relabelled = [back.compose(merged.permutations[k]) for k in order]
    assert list(other.permutations) == relabelled
    assert_same(other.state_dict, back.apply(merged.state_dict), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_leads_around_a_cycle_leads_back(name: str) -> None:
    symmetry, models = random_models(name, 4)
    found = cycle_consistent(symmetry, models, steps=5, progress=False).permutations
    leads = {
        (k, j): found[j].inverse().compose(found[k]) for k, j in itertools.permutations(range(4), 2)
    }
    for i, j, k in itertools.permutations(range(4), 3):
        assert leads[j, k].compose(leads[i, j]) == leads[i, k]
        assert leads[k, i].compose(leads[j, k]).compose(leads[i, j]).is_identity


def mlp(seed: int, width: int = 3) -> nn.Module:
    layers = (nn.Linear(2, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
    return randomise(nn.Sequential(*layers, nn.Linear(width, 2)), seed)


@pytest.mark.parametrize("seed", range(4))
def test_the_universe_is_close_to_the_best_of_all(seed: int) -> None:
    """Three models of two blocks of three units: all 6 ** 4 ways are tried."""
    nets = [mlp(10 * seed + k) for k in range(3)]
    symmetry = fr.analyze(nets[0], (torch.zeros(1, 2, dtype=torch.float64),))
    models = [dict(net.state_dict()) for net in nets]
    merged = cycle_consistent(symmetry, models, progress=False)
    every = [np.array([order]) for order in itertools.permutations(range(3))]
    elements = [
        fr.Permutation(symmetry, dict(zip(symmetry.blocks, pair, strict=True)))
        for pair in itertools.product(every, every)
    ]
    moved = [[flat(symmetry, p.apply(model)) for p in elements] for model in models[1:]]
    own = flat(symmetry, models[0])
    best = max(
        float(((own + one + other) / 3).square().sum()) for one in moved[0] for other in moved[1]
    )
    assert merged.history[-1] <= best * (1 + 1e-12)
    assert merged.history[-1] >= 0.9 * best + 0.1 * merged.history[0]


def flat(symmetry: fr.Symmetry, state: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([state[p.name].ravel() for p in symmetry.parameters if p.groups])


def test_convolutions_with_running_statistics() -> None:
    nets = [randomise(Net(k), k) for k in range(3)]
    for k, net in enumerate(nets):
        net.norm.num_batches_tracked = torch.tensor(k + 5)
    symmetry = fr.analyze(nets[0], (X.double(),))
    merged = many(symmetry, [net.state_dict() for net in nets], progress=False)
    assert int(merged.state_dict["norm.num_batches_tracked"]) == 5
    moved = [p.apply(n.state_dict()) for p, n in zip(merged.permutations, nets, strict=True)]
    expected = torch.stack([state["norm.running_var"] for state in moved]).mean(0)
    assert torch.allclose(merged.state_dict["norm.running_var"], expected)
    nets[0].load_state_dict(merged.state_dict)


def test_state_dicts_keep_their_type_and_notes() -> None:
    state = Net(0).state_dict()
    symmetry = fr.analyze(Net(0), (X,))
    merged = mean(symmetry, [state, Net(1).state_dict()])
    assert type(merged.state_dict) is type(state)
    assert merged.state_dict._metadata == state._metadata  # type: ignore[attr-defined]


def test_dtypes_are_those_of_the_first_model_and_sums_are_more_precise() -> None:
    symmetry, a, _ = random_pair("residual_mlp")
    half = {name: tensor.bfloat16() for name, tensor in a.items()}
    tiny = {name: tensor.float() + 1e-4 for name, tensor in half.items()}
    merged = mean(symmetry, [half, *[tiny] * 7])
    for name, tensor in merged.state_dict.items():
        assert tensor.dtype == torch.bfloat16
        expected = (half[name].double() + 7 * tiny[name].double()) / 8
        assert torch.equal(tensor, expected.bfloat16())
    other = mean(symmetry, [tiny, half]).state_dict
    assert {tensor.dtype for tensor in other.values()} == {torch.float32}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x).tanh())


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_tied_tensors_stay_tied(method: MergeMethod) -> None:
    nets = [randomise(Tied(), seed) for seed in range(3)]
    symmetry = fr.analyze(nets[0], (torch.tensor([[1, 2]]),))
    states = [net.state_dict() for net in nets]
    merged = method(symmetry, states, progress=False).state_dict
    assert merged["embed.weight"] is merged["head.weight"]
    states[1] = {**states[1], "head.weight": states[1]["head.weight"] + 1}
    with pytest.raises(ArchitectureMismatchError, match="are one tensor in the first model, but"):
        mean(symmetry, states)
    apart = mean(symmetry, [{n: t.clone() for n, t in s.items()} for s in states]).state_dict
    assert not torch.equal(apart["embed.weight"], apart["head.weight"])


def test_infinite_entries_that_agree_stay() -> None:
    symmetry = fr.analyze(nn.Linear(2, 2), (torch.zeros(1, 2),))
    states = [
        {"weight": torch.eye(2) * k, "bias": torch.ones(2), "mask": torch.tensor([-torch.inf, k])}
        for k in (1.0, 2.0, 3.0)
    ]
    merged = mean(symmetry, states).state_dict
    assert torch.equal(merged["mask"], torch.tensor([-torch.inf, 2.0]))
    assert torch.equal(merged["weight"], torch.eye(2) * 2)


def test_what_is_no_tensor_is_that_of_the_first_model() -> None:
    symmetry = fr.analyze(nn.Linear(2, 2), (torch.zeros(1, 2),))
    states: list[Any] = [{**nn.Linear(2, 2).state_dict(), "_extra_state": {"k": k}} for k in "ab"]
    merged: Mapping[str, Any] = mean(symmetry, states).state_dict
    assert merged["_extra_state"] == {"k": "a"}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_one_model_is_itself(method: MergeMethod) -> None:
    symmetry, a, _ = random_pair("residual_mlp")
    merged = method(symmetry, [a], progress=False)
    assert_same(merged.state_dict, a)
    assert all(merged.state_dict[name] is not a[name] for name in a)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_model_may_have_all_the_weight(method: MergeMethod) -> None:
    symmetry, models = random_models("residual_mlp", 3)
    merged = method(symmetry, models, weights=[0, 1, 0], progress=False)
    assert_same(merged.state_dict, merged.permutations[1].apply(models[1]), 1e-15)
    for little in (1e-9, 1e-30):
        heavy = method(symmetry, models, weights=[little, 1, little], progress=False)
        assert_same(heavy.state_dict, heavy.permutations[1].apply(models[1]), 1e-6)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_random_state_is_left_alone(method: MergeMethod) -> None:
    symmetry, a, b = random_pair("residual_mlp")
    before = torch.get_rng_state(), random.getstate()
    method(symmetry, [a, b], progress=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_it_warns_where_sweeps_run_out() -> None:
    symmetry, models = random_models("residual_mlp", 4)
    with pytest.warns(ConvergenceWarning, match="merging stopped after 1 sweeps"):
        many(symmetry, models, max_sweeps=1, in_turn=False, progress=False)
    placed = many(symmetry, models, max_sweeps=0, progress=False)
    assert len(placed.history) == 2


def test_models_that_are_aligned_already_are_not_moved_apart() -> None:
    """Fine-tuned from one ancestor: placing each by those before it must not lose to that."""
    symmetry, a, _ = random_pair("residual_mlp")
    generator = torch.Generator().manual_seed(0)
    models = [
        {
            n: t + 1e-3 * torch.randn(t.shape, generator=generator, dtype=t.dtype)
            for n, t in a.items()
        }
        for _ in range(4)
    ]
    for method in (many, cycle_consistent):
        merged = method(symmetry, models, progress=False)
        assert all(p.is_identity for p in merged.permutations)


def cosine(
    symmetry: fr.Symmetry,
    b: Mapping[str, Tensor],
    a: Mapping[str, Tensor],
    /,
    *,
    device: torch.device | str | None = None,
) -> fr.InnerProducts:
    terms = (
        fr.objectives.term(m, a[m.name] / a[m.name].norm(), b[m.name] / b[m.name].norm())
        for m in symmetry.parameters
        if m.groups and not m.is_buffer
    )
    return fr.InnerProducts(symmetry, terms, name="cosine matching")


@pytest.mark.parametrize("method", ALIGNING.values(), ids=ALIGNING)
def test_an_objective_of_ones_own(method: MergeMethod) -> None:
    symmetry, a, _ = random_pair("residual_mlp")
    merged = method(symmetry, copies(symmetry, a, 4), objective=cosine, progress=False)
    assert_same(merged.state_dict, a)
    assert merged.history[-1] == pytest.approx(
        sum(bool(p.groups) and not p.is_buffer for p in symmetry.parameters)
    )


@pytest.mark.parametrize("method", ALIGNING.values(), ids=ALIGNING)
def test_the_device_to_compute_on_reaches_the_objective(method: MergeMethod) -> None:
    symmetry, models = random_models("residual_mlp", 2)
    seen: set[torch.device | str | None] = set()

    def objective(*states: Any, device: torch.device | str | None = None) -> fr.InnerProducts:
        seen.add(device)
        return fr.objectives.weights(*states, device=device)

    place = torch.device("cpu", 0)
    merged = method(symmetry, models, objective=objective, device=place, progress=False)
    assert seen == {place}
    assert {tensor.device.type for tensor in merged.state_dict.values()} == {"cpu"}


class Counted(Mapping[str, Tensor]):
    """A checkpoint that reads a tensor at every look, and counts the bytes that are held."""

    held, most = 0, 0

    def __init__(self, state: State) -> None:
        self.arrays = {name: tensor.numpy() for name, tensor in state.items()}

    def __getitem__(self, name: str) -> Tensor:
        array = self.arrays[name].copy()
        Counted.held += array.nbytes
        Counted.most = max(Counted.most, Counted.held)
        weakref.finalize(array, self._freed, array.nbytes)
        return torch.from_numpy(array)

    @staticmethod
    def _freed(size: int) -> None:
        Counted.held -= size

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_models_are_read_one_at_a_time(method: MergeMethod) -> None:
    """What is read and held at once is one model, two where one is aligned with another."""
    symmetry, models = random_models("residual_mlp", 3)
    size = sum(tensor.numpy().nbytes for tensor in models[0].values())
    largest = max(tensor.numpy().nbytes for tensor in models[0].values())
    expected = method(symmetry, models, progress=False)
    Counted.held = Counted.most = 0
    merged = method(symmetry, [Counted(model) for model in models], progress=False)
    assert_same(merged.state_dict, expected.state_dict)
    assert Counted.held == 0
    limit = {mean: 0, to_reference: 2, tree: 2, ALIGNING["cycle_consistent"]: 2}.get(method, 1)
    assert Counted.most <= limit * size + 2 * largest


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_checkpoints_on_disk(method: MergeMethod, tmp_path: Path) -> None:
    symmetry, models = random_models("torch_attention", 3)
    files = []
    for k, model in enumerate(models):
        torch.save(model, tmp_path / f"{k}.pt")
        files.append(fr.open_checkpoint(tmp_path / f"{k}.pt"))
    merged = method(symmetry, files, progress=False)
    assert_same(merged.state_dict, method(symmetry, models, progress=False).state_dict)
    assert_same(files[0], models[0])


def random_fishers(symmetry: fr.Symmetry, models: Sequence[State]) -> list[State]:
    generator = torch.Generator().manual_seed(1)
    names = [n for p in symmetry.parameters if not p.is_buffer for n in p.names]
    return [
        {n: torch.rand(m[n].shape, generator=generator, dtype=torch.float64) for n in names}
        for m in models
    ]


@pytest.mark.parametrize("name", NAMES)
def test_fishers_move_along(name: str) -> None:
    symmetry, models = random_models(name, 3)
    fishers, weights = random_fishers(symmetry, models), [1, 2, 3]
    method = partial(fisher_weighted, fisher=fishers)
    merged = method(symmetry, models, weights=weights, progress=False)
    plain = many(symmetry, models, weights=weights, progress=False)
    assert merged.permutations == plain.permutations
    moved = [p.apply(m) for p, m in zip(merged.permutations, models, strict=True)]
    unsigned = [fr.Permutation(symmetry, p.indices) for p in merged.permutations]
    informed = [p.apply(f) for p, f in zip(unsigned, fishers, strict=True)]
    for n, tensor in merged.state_dict.items():
        if n not in fishers[0]:
            assert torch.equal(tensor, plain.state_dict[n])
            continue
        parts = zip(weights, informed, moved, strict=True)
        above = torch.stack([w * f[n] * m[n] for w, f, m in parts]).sum(0)
        below = torch.stack([w * f[n] for w, f in zip(weights, informed, strict=True)]).sum(0)
        assert torch.allclose(tensor, above / below)


def test_without_information_the_mean_is_plain() -> None:
    symmetry, models = random_models("residual_mlp", 3)
    nothing = [{n: torch.zeros_like(t) for n, t in model.items()} for model in models]
    plain = many(symmetry, models, progress=False)
    nowhere: list[State] = [{}, {}, {}]
    for fishers in (nothing, nowhere):
        merged = fisher_weighted(symmetry, models, fisher=fishers, progress=False)
        assert_same(merged.state_dict, plain.state_dict)
    first = {n: torch.ones_like(t) for n, t in models[0].items()}
    alone = fisher_weighted(
        symmetry, models, fisher=[first, *nothing[1:]], align=to_reference, progress=False
    )
    assert_same(alone.state_dict, models[0], 1e-14)


@pytest.mark.parametrize(
    ("fisher", "kind", "text"),
    [
        ([{}], InvalidArgumentError, "fisher: expected a list of 2 mappings, one for each model"),
        ([{}, 3], InvalidArgumentError, r"fisher\[1\]: expected a mapping"),
        ("shape", ArchitectureMismatchError, "give the Fisher information of the same model"),
        ("negative", InvalidParameterError, "which no Fisher information is"),
    ],
)
def test_fishers_that_make_no_sense(fisher: Any, kind: type[Exception], text: str) -> None:
    symmetry, models = random_models("residual_mlp", 2)
    if fisher == "shape":
        fisher = [{n: torch.ones(2, 2, 2) for n in model} for model in models]
    if fisher == "negative":
        fisher = [{n: -torch.ones_like(t) for n, t in model.items()} for model in models]
    with pytest.raises(kind, match=text):
        fisher_weighted(symmetry, models, fisher=fisher, progress=False)


BROKEN: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no models": ({"models": []}, InvalidArgumentError, "models: expected a list of state dicts"),
    "one state dict": (
        {"models": {"weight": torch.ones(2)}},
        InvalidArgumentError,
        "models: expected a list of state dicts, of one model or more, found a dict of 1; give "
        r"\[one.state_dict\(\), other.state_dict\(\)\]",
    ),
    "modules": (
        {"models": [nn.Linear(2, 2)]},
        InvalidArgumentError,
        r"models\[0\]: expected a mapping .* give models\[0\].state_dict\(\)",
    ),
    "too few weights": (
        {"weights": [1]},
        InvalidArgumentError,
        "weights: expected a list of 2 finite numbers from 0 upwards, one for each model, or None, "
        "found a list of 1",
    ),
    "a negative weight": ({"weights": [1, -1]}, InvalidArgumentError, r"weights\[1\]: expected"),
    "no weight at all": ({"weights": [0, 0]}, InvalidArgumentError, "at least one above 0"),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_arguments_that_make_no_sense(method: MergeMethod, what: str) -> None:
    symmetry, a, b = random_pair("residual_mlp")
    given, kind, text = BROKEN[what]
    models = given.get("models", [a, b])
    with pytest.raises(kind, match=text):
        method(symmetry, models, weights=given.get("weights"), progress=False)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_models_of_other_architectures(method: MergeMethod) -> None:
    symmetry, a, b = random_pair("residual_mlp")
    name = next(p.name for p in symmetry.parameters if p.groups)
    lacking = {n: t for n, t in b.items() if n != name}
    with pytest.raises(ArchitectureMismatchError, match=r"models\[0\] has '.*', which models\[1\]"):
        method(symmetry, [a, lacking], progress=False)
    with pytest.raises(ArchitectureMismatchError, match="has shape"):
        method(symmetry, [a, {**b, name: torch.ones(1)}], progress=False)
    with pytest.raises(ArchitectureMismatchError, match="take it off"):
        method(symmetry, [{f"module.{n}": t for n, t in a.items()}], progress=False)
    sparse = {**b, name: b[name].to_sparse()}
    with pytest.raises(InvalidParameterError, match="is sparse"):
        method(symmetry, [a, sparse], progress=False)


@pytest.mark.parametrize("options", [{"spread": 1.5}, {"steps": -1}, {"patience": 0}])
def test_options_of_the_universe_that_make_no_sense(options: dict[str, Any]) -> None:
    symmetry, a, b = random_pair("residual_mlp")
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        cycle_consistent(symmetry, [a, b], **options)


def test_it_prints_what_was_done() -> None:
    symmetry, a, _ = random_pair("residual_mlp")
    merged = to_reference(symmetry, copies(symmetry, a, 2), progress=False)
    first, *rows = str(merged).splitlines()
    assert first.startswith("2 models merged, objective ")
    assert first.endswith(" in 1 steps")
    units = symmetry.movable_units
    assert rows[0] == f"  model 0: 0 of {units} units moved"
    assert str(mean(symmetry, [a])).splitlines()[0] == "1 models merged"
