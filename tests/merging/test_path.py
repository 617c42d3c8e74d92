"""Chains of models, what is best on a path, and the files that a path is written to."""

from __future__ import annotations

import copy
import csv
import io
import json
import math
from functools import partial
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import FileFormatError, InvalidArgumentError

repeatable = settings(derandomize=True, deadline=None, max_examples=60)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def net(seed: int) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


def weights_seen(models: list[nn.Linear], **options: Any) -> tuple[fr.Path, list[Tensor]]:
    seen = []

    def evaluate(model: nn.Module) -> float:
        assert isinstance(model, nn.Linear)
        seen.append(model.weight.detach().clone())
        return float(model.weight.detach().sum())

    a, *via, b = models
    path = fr.interpolate(a, b, evaluate, via=via, progress=False, **options)
    return path, seen


def test_a_chain_leads_through_every_model_bit_for_bit() -> None:
    models = [net(k) for k in range(4)]
    path, seen = weights_seen(models, steps=3)
    assert path.points == (0, 0.5, 1, 1.5, 2, 2.5, 3)
    for model, weight in zip(models, seen[::2], strict=True):
        assert torch.equal(model.weight, weight)
    for one, other, weight in zip(models, models[1:], seen[1::2], strict=False):
        torch.testing.assert_close(weight, torch.lerp(one.weight, other.weight, 0.5).detach())


def test_the_legs_of_a_chain_are_the_paths_between_its_models() -> None:
    models = [net(k) for k in range(3)]
    chain, _ = weights_seen(models, steps=5)
    for leg, k in zip(chain.legs, range(2), strict=True):
        alone, _ = weights_seen(models[k : k + 2], steps=5)
        assert leg == alone


def test_the_models_of_a_chain_are_aligned_with_the_first() -> None:
    torch.manual_seed(0)
    a = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
    x = torch.randn(8, 3)
    symmetry = fr.analyze(a, args=(x,))
    others = [
        fr.Permutation.random(symmetry, torch.Generator().manual_seed(k)).apply_to(a)
        for k in (1, 2)
    ]

    @torch.no_grad()
    def evaluate(model: nn.Module) -> float:
        return float((model(x) - a(x)).abs().max())

    options: dict[str, Any] = {"via": others[:1], "progress": False, "steps": 5}
    aligned = fr.interpolate(a, others[1], evaluate, symmetry=symmetry, **options)
    assert max(aligned.losses) < 1e-6
    assert max(fr.interpolate(a, others[1], evaluate, **options).losses) > 1e-2


def test_a_barrier_is_measured_on_every_leg() -> None:
    path = fr.Path((0, 0.5, 1, 1.5, 2), {"loss": (1.0, 4.0, 2.0, 2.0, 0.0)})
    assert [leg.barrier for leg in path.legs] == [2.5, 1.0]
    assert path.barrier == 2.5
    assert path.heights == (0, 2.5, 0, 1.0, 0)
    assert "path from A (t = 0) through 1 more to C (t = 2)" in str(path)
    assert "per leg 2.5, 1" in str(path)
    with pytest.raises(InvalidArgumentError, match=r"has 2 legs; each has a midpoint"):
        _ = path.midpoint


@repeatable
@given(st.tuples(NUMBERS, NUMBERS, NUMBERS))
def test_the_two_barriers_agree_between_ends_of_one_loss(losses: tuple[float, ...]) -> None:
    first, middle, _ = losses
    path = fr.Path((0, 0.5, 1), {"loss": (first, middle, first)})
    assert path.barrier == pytest.approx(path.barrier_over_mean)


@repeatable
@given(st.tuples(NUMBERS, NUMBERS))
def test_over_the_mean_a_slope_is_half_of_its_height(ends: tuple[float, float]) -> None:
    path = fr.Path((0, 1), {"loss": ends})
    assert path.barrier_over_mean == pytest.approx(abs(ends[1] - ends[0]) / 2, rel=1e-5)
    assert path.barrier == pytest.approx(0)


def test_a_barrier_over_the_mean_of_nan_is_nan() -> None:
    assert math.isnan(fr.Path((0, 0.5, 1), {"loss": (1.0, math.nan, 1.0)}).barrier_over_mean)


@pytest.mark.parametrize(
    "points", [(0, 1.5), (0, 0.5, 2), (0, 1, 1.5), (0, math.inf), (0, 0.5, 1.5, 2)]
)
def test_a_chain_has_a_point_at_every_model(points: tuple[float, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="points must increase from 0 to 1, or through"):
        fr.Path(points, {"loss": (0.0,) * len(points)})


def test_the_best_point_is_the_first_of_the_best() -> None:
    metrics = {"loss": (3.0, math.nan, 1.0, 1.0), "accuracy": (0.5, 0.9, 0.9, 0.1)}
    path = fr.Path((0, 0.25, 0.5, 1), metrics)
    assert path.best() == fr.Point(0.5, {"loss": 1.0, "accuracy": 0.9})
    assert path.best("accuracy", "max").t == 0.25
    assert path.best("accuracy").t == 1
    assert path.best().state_dict is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "f1"}, r"metric: expected one of \['loss'\], found 'f1'"),
        ({"mode": "most"}, "mode: expected 'min' or 'max', found 'most'"),
    ],
)
def test_there_is_no_best_of_what_was_not_measured(options: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        fr.Path((0, 1), {"loss": (1.0, 2.0)}).best(**options)
    with pytest.raises(InvalidArgumentError, match="found 'loss', nan"):
        fr.Path((0, 1), {"loss": (math.nan, math.nan)}).best()


def test_the_weights_of_the_lowest_loss_are_kept() -> None:
    a, b = net(0), net(1)
    path, seen = weights_seen([a, b], keep="best", steps=5)
    best = path.best()
    assert best.state_dict is not None
    assert torch.equal(best.state_dict["weight"], seen[path.points.index(best.t)])
    a.load_state_dict(dict(best.state_dict))
    worst = path.best(mode="max")
    assert worst.state_dict is None


def test_every_point_is_saved_whole_and_under_its_number(tmp_path: FilePath) -> None:
    folder = tmp_path / "points"
    path, seen = weights_seen([net(0), net(1), net(2)], save_to=folder, steps=3)
    names = ["0.000000", "0.500000", "1.000000", "1.500000", "2.000000"]
    assert sorted(f.name for f in folder.iterdir()) == [f"t={n}.safetensors" for n in names]
    for file, weight in zip(path.files, seen, strict=True):
        assert torch.equal(load_file(file)["weight"], weight)
    worst = path.best(mode="max")
    assert worst.state_dict is not None
    assert torch.equal(worst.state_dict["weight"], seen[path.points.index(worst.t)])


def test_tied_tensors_and_views_are_saved_under_every_name(tmp_path: FilePath) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.LSTM(3, 2))
    model[1].weight = model[0].weight
    model[0].bias = nn.Parameter(torch.arange(6.0)[::2])
    model.append(nn.Linear(3, 3))
    model[3].weight = nn.Parameter(torch.randn(3, 3).t())
    other = copy.deepcopy(model)
    path = fr.interpolate(model, other, lambda _: 0.0, save_to=tmp_path, steps=2, progress=False)
    state = model.state_dict()
    for file in path.files:
        saved = load_file(file)
        assert saved.keys() == state.keys()
        assert all(torch.equal(saved[name], state[name]) for name in state)


def test_what_evaluate_does_to_the_weights_is_not_saved(tmp_path: FilePath) -> None:
    a, b = net(0), net(1)

    def evaluate(model: nn.Module) -> float:
        with torch.no_grad():
            model.weight.zero_()  # type: ignore[operator]
        return 0.0

    path = fr.interpolate(a, b, evaluate, save_to=tmp_path, keep="best", steps=2, progress=False)
    assert torch.equal(load_file(path.files[0])["weight"], a.weight)
    state = path.best().state_dict
    assert state is not None
    assert torch.equal(state["weight"], a.weight)


def test_a_folder_in_a_missing_folder_is_refused_before_anything_is_run(
    tmp_path: FilePath,
) -> None:
    def evaluate(model: nn.Module) -> float:
        raise AssertionError("nothing should be run")

    with pytest.raises(FileNotFoundError):
        fr.interpolate(net(0), net(1), evaluate, save_to=tmp_path / "a" / "b")


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_weights_at_the_best_of_any_metric_are_kept(mode: str) -> None:
    given = iter([(1.0, math.nan), (3.0, 0.6), (2.0, 0.7), (4.0, 0.2), (5.0, 0.7)])

    def evaluate(model: nn.Module) -> dict[str, float]:
        return dict(zip(("loss", "accuracy"), next(given), strict=True))

    keep = ("accuracy", mode)
    path = fr.interpolate(net(0), net(1), evaluate, keep=keep, steps=5, progress=False)
    best = path.best(*keep)
    assert best.t == {"max": 0.5, "min": 0.75}[mode]
    assert best.state_dict is not None
    expected = torch.lerp(net(0).weight, net(1).weight, best.t)
    torch.testing.assert_close(best.state_dict["weight"], expected)
    assert path.best().state_dict is None


@pytest.mark.parametrize("keep", ["all", ("accuracy", "most"), ("loss",), 3])
def test_only_the_best_can_be_kept(keep: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="keep: expected 'best', a metric with 'min'"):
        fr.interpolate(net(0), net(1), lambda _: 0.0, keep=keep)


def test_the_best_of_what_is_not_measured_cannot_be_kept() -> None:
    with pytest.raises(InvalidArgumentError, match=r"keep: expected a metric .* \['loss'\], found"):
        fr.interpolate(net(0), net(1), lambda _: 0.0, keep=("accuracy", "max"), progress=False)


PATHS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=3)


@repeatable
@given(PATHS, st.booleans(), st.sampled_from(["linear", "spherical"]))
def test_a_path_is_the_same_after_json_and_csv(
    rows: list[tuple[float, float]], recomputed: bool, curve: str
) -> None:
    losses, others = zip(*rows, strict=True)
    path = fr.Path(
        (0, 1 / 3, 1), {"loss": losses, "other, one": others}, recomputed, curve, ("a", "b", "c")
    )
    assert fr.Path.from_json(path.to_json()) == path
    table = [*csv.reader(io.StringIO(path.to_csv()))]
    assert table[0] == ["t", "loss", "other, one"]
    columns = [tuple(map(float, column)) for column in zip(*table[1:], strict=True)]
    assert columns == [path.points, losses, others]


def test_nan_is_null_in_json_and_nan_again() -> None:
    path = fr.Path.from_json(fr.Path((0, 1), {"loss": (0.5, math.nan)}).to_json())
    assert path.losses[0] == 0.5
    assert math.isnan(path.losses[1])


def test_texts_are_written_to_whole_files(tmp_path: FilePath) -> None:
    path = fr.Path((0, 1), {"loss": (0.5, 0.25)})
    for name, write in (("a.csv", path.to_csv), ("a.json", path.to_json)):
        text = write(tmp_path / name)
        assert (tmp_path / name).read_text() == text
    with pytest.raises(FileNotFoundError):
        path.to_csv(tmp_path / "missing" / "a.csv")
    assert {f.name for f in tmp_path.iterdir()} == {"a.csv", "a.json"}


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "{}", '{"points": [0, 1]}', '{"points": [0, 2], "metrics": {"loss": 3}}',
     json.dumps({"points": [0, 1], "metrics": {"accuracy": [1, 2]}})],
)  # fmt: skip
def test_what_is_no_path_is_not_read(text: str) -> None:
    with pytest.raises(FileFormatError, match="text: expected"):
        fr.Path.from_json(text)


def test_a_chain_is_drawn_with_its_models(tmp_path: FilePath) -> None:
    path = fr.Path((0, 0.5, 1, 1.5, 2), {"loss": (1.0, 4.0, 2.0, 2.0, 0.0)})
    (panel,) = path.plot(tmp_path / "chain.png", compare=path, labels=("one", "two")).axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["A", "B", "C"]
    assert (tmp_path / "chain.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InvalidArgumentError, match="expected a path of 2 legs, found one of 1"):
        path.plot(compare=fr.Path((0, 1), {"loss": (1.0, 2.0)}))


def test_at_every_point_a_model_is_prepared_on_a_copy() -> None:
    a, b = net(0), net(1)
    seen: list[float] = []

    def shifted(model: nn.Module, t: float) -> nn.Module:
        seen.append(t)
        with torch.no_grad():
            model.weight.zero_()  # type: ignore[operator]
            model.bias.fill_(t)  # type: ignore[operator]
        return nn.Sequential(model, nn.Dropout()).train()

    def evaluate(model: nn.Module) -> float:
        assert not any(module.training for module in model.modules())
        return float(model(torch.ones(1, 3)).detach().sum())

    path = fr.interpolate(a, b, evaluate, at_point=shifted, steps=3, keep="best", progress=False)
    assert seen == [0, 0.5, 1]
    assert path.losses == (0, 1, 2)
    state = path.best().state_dict
    assert state is not None
    assert [*state] == ["0.weight", "0.bias"]


def test_what_prepares_a_point_may_replace_what_it_likes() -> None:
    a, b = net(0), net(1)
    seen = []

    def replaced(model: nn.Module) -> nn.Module:
        seen.append(model.weight.detach().clone())  # type: ignore[operator]
        model.weight = nn.Parameter(torch.zeros(2, 3))
        return model

    fr.interpolate(a, b, lambda _: 0.0, at_point=replaced, steps=3, progress=False)
    assert torch.equal(seen[0], a.weight)
    assert torch.equal(seen[-1], b.weight)


def test_integers_are_those_of_the_first_model_all_along() -> None:
    models = [nn.BatchNorm1d(2) for _ in "abc"]
    for k, model in enumerate(models):
        nn.init.constant_(model.num_batches_tracked, k + 4)  # type: ignore[arg-type]
    seen = []

    def evaluate(model: nn.Module) -> float:
        seen.append(int(model.num_batches_tracked))  # type: ignore[arg-type]
        return 0.0

    a, via, b = models
    fr.interpolate(a, b, evaluate, via=[via], steps=3, progress=False)
    assert seen == [4] * 5


def test_what_is_done_at_every_point_need_not_know_where() -> None:
    def emptied(model: nn.Module, *, value: float) -> nn.Module:
        return model.apply(lambda m: nn.init.constant_(m.bias, value))  # type: ignore[arg-type]

    path = fr.interpolate(
        net(0),
        net(1),
        lambda model: float(model.bias.detach().sum()),  # type: ignore[operator]
        at_point=partial(emptied, value=2.0),
        steps=3,
        progress=False,
    )
    assert path.losses == (4, 4, 4)


def test_what_prepares_a_point_must_return_a_model() -> None:
    with pytest.raises(InvalidArgumentError, match="what at_point returns: expected a torch"):
        fr.interpolate(net(0), net(1), lambda _: 0.0, at_point=lambda model: None)  # type: ignore[arg-type, return-value]
