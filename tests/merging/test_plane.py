"""The plane through three models: where they are on it, what is measured there, what is drawn."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import ArchitectureMismatchError, FileFormatError, InvalidArgumentError

repeatable = settings(derandomize=True, deadline=None, max_examples=20)


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3), nn.Linear(4, 3))
    model[3].weight = model[2].weight
    for tensor in model[1].state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(4) + 0.1)
    return model


def plane_through(
    models: Sequence[nn.Module], evaluate: Callable[[nn.Module], Any], **options: Any
) -> fr.Plane:
    a, b, c = models
    return fr.loss_plane(a, b, c, evaluate, progress=False, **options)


def vector(model: nn.Module) -> Tensor:
    """All parameters, tied ones once."""
    return torch.cat([p.detach().double().ravel() for p in model.parameters()])


def nearly(distance: float) -> Any:
    return pytest.approx(distance, rel=1e-5, abs=1e-5)


@repeatable
@given(st.integers(0, 100))
def test_distances_on_the_plane_are_those_in_weight_space(seed: int) -> None:
    models = [net(seed + k) for k in range(3)]
    plane = plane_through(models, lambda _: 0.0, steps=2)
    for k in range(3):
        for m in range(3):
            apart = float((vector(models[k]) - vector(models[m])).norm())
            assert math.dist(plane.corners[k], plane.corners[m]) == nearly(apart)


def test_every_point_of_the_grid_is_where_it_says() -> None:
    models = [net(k) for k in range(3)]
    seen: list[Tensor] = []

    def evaluate(model: nn.Module) -> float:
        seen.append(vector(model))
        return 0.0

    plane = plane_through(models, evaluate, steps=4)
    spots = [*plane.corners, *((x, y) for y in plane.y for x in plane.x)]
    assert len(seen) == len(spots) == 3 + 16
    for spot, here in zip(spots, seen, strict=True):
        for other, there in zip(spots, seen, strict=True):
            assert math.dist(spot, other) == nearly(float((here - there).norm()))


def test_the_corners_are_the_models_bit_for_bit() -> None:
    models = [net(k).eval() for k in range(3)]
    x = torch.randn(16, 3)

    def evaluate(model: nn.Module) -> float:
        hidden = model[1](model[0](x))  # type: ignore[index]
        return float((model[2](hidden) + model[3](hidden)).square().mean().detach())  # type: ignore[index]

    plane = plane_through(models, evaluate, steps=2)
    assert plane.at_corners["loss"] == tuple(evaluate(model) for model in models)


def test_without_margin_the_grid_ends_at_the_models() -> None:
    models = [net(k) for k in range(3)]
    plane = plane_through(models, lambda _: 0.0, steps=3, margin=0)
    (_, (b, _), (c, height)) = plane.corners
    assert (plane.x[0], plane.x[-1]) == (min(0, c), max(b, c))
    assert (plane.y[0], plane.y[-1]) == (0, height)


def test_metrics_are_in_rows_along_the_first_axis() -> None:
    a, b, c = (nn.Linear(1, 2, bias=False) for _ in "abc")
    for model, values in ((a, (0.0, 0.0)), (b, (2.0, 0.0)), (c, (1.0, 3.0))):
        model.weight.data = torch.tensor(values)[:, None]

    def evaluate(model: nn.Module) -> dict[str, float]:
        first, second = model.weight.detach().ravel().tolist()  # type: ignore[operator]
        return {"loss": first, "second": second}

    plane = fr.loss_plane(a, b, c, evaluate, steps=3, margin=0)
    assert plane.corners == ((0, 0), (2, 0), (1, 3))
    assert plane.grid().tolist() == [[0, 1, 2]] * 3
    assert plane.grid("second").tolist() == [[0] * 3, [1.5] * 3, [3] * 3]
    assert plane.best("second", "max") == (0, 3, 3)


def test_statistics_stay_within_those_of_the_models() -> None:
    models = [net(k) for k in range(3)]
    variances = torch.stack([m[1].running_var for m in models])  # type: ignore[misc]

    def evaluate(model: nn.Module) -> float:
        found = model[1].running_var  # type: ignore[index]
        assert (found >= variances.amin(0)).all()
        assert (found <= variances.amax(0)).all()
        return 0.0

    plane_through(models, evaluate, steps=3, margin=3)


def test_no_model_and_no_random_state_changes_and_all_points_draw_alike() -> None:
    models = [net(k).train() for k in range(3)]
    before = [{n: t.clone() for n, t in m.state_dict().items()} for m in models]
    state, drawn = torch.get_rng_state(), set()

    def evaluate(model: nn.Module) -> float:
        assert not model.training
        drawn.add(torch.rand(()).item())
        return 0.0

    plane_through(models, evaluate, steps=2, at_point=lambda m: m)
    assert len(drawn) == 1
    assert torch.equal(state, torch.get_rng_state())
    for model, kept in zip(models, before, strict=True):
        assert model.training
        assert all(torch.equal(kept[n], t) for n, t in model.state_dict().items())


def test_batch_norm_is_measured_afresh_at_every_point() -> None:
    models = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in "abc"]
    x = torch.randn(32, 3)

    def evaluate(model: nn.Module) -> float:
        return float(model(x).detach().mean().abs())

    plane = plane_through(models, evaluate, steps=2, loader=[x])
    assert plane.batch_norm_recomputed
    assert plane.grid().max() < 1e-5
    assert "BatchNorm statistics recomputed" in str(plane)


def test_three_models_on_a_line_make_no_plane() -> None:
    a, b, middle = net(0), net(1), net(2)
    with torch.no_grad():
        for p, q, r in zip(a.parameters(), b.parameters(), middle.parameters(), strict=True):
            r.copy_((p + q) / 2)
    with pytest.raises(InvalidArgumentError, match="c: expected a model off the line through a"):
        fr.loss_plane(a, b, middle, lambda _: 0.0)
    with pytest.raises(InvalidArgumentError, match="b: expected another model than a"):
        fr.loss_plane(a, a, b, lambda _: 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1}, "steps: expected a whole number, at least 2"),
        ({"margin": -0.1}, "margin: expected a number from 0 upwards"),
        ({"margin": math.nan}, "margin: expected a number from 0 upwards"),
        ({"loader": iter([])}, "pass a list or a DataLoader"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        fr.loss_plane(net(0), net(1), net(2), lambda _: 0.0, **options)


def test_models_that_do_not_fit_are_named() -> None:
    with pytest.raises(ArchitectureMismatchError, match="which c does not have"):
        fr.loss_plane(net(0), net(1), nn.Linear(3, 4), lambda _: 0.0)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.5, 1.0))


def plane_of(values: list[float]) -> fr.Plane:
    rows = (tuple(values[:3]), tuple(values[3:6]))
    metrics = {"loss": rows, "accuracy": rows}
    corners = dict.fromkeys(metrics, (values[0], values[1], values[2]))
    return fr.Plane((0, 0.1, 1), (-1, 1), metrics, CORNERS, corners)


@repeatable
@given(st.lists(NUMBERS, min_size=6, max_size=6))
def test_a_plane_is_the_same_after_json_and_csv(values: list[float]) -> None:
    plane = plane_of(values)
    assert fr.Plane.from_json(plane.to_json()) == plane
    head, *rows = csv.reader(io.StringIO(plane.to_csv()))
    assert head == ["model", "x", "y", "loss", "accuracy"]
    assert [row[0] for row in rows] == ["A", "B", "C", *[""] * 6]
    assert [tuple(map(float, row[1:3])) for row in rows[:3]] == [*CORNERS]
    assert [float(row[3]) for row in rows[3:]] == values


def test_nan_is_null_in_json_and_nan_again() -> None:
    text = plane_of([1.0, 2.0, 3.0, math.nan, 0.5, math.inf]).to_json()
    again = fr.Plane.from_json(text)
    assert math.isnan(again.metrics["loss"][1][0])
    assert again.best() == (0.1, 1.0, 0.5)


def test_texts_are_written_to_whole_files(tmp_path: FilePath) -> None:
    plane = plane_of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    for name, write in (("a.csv", plane.to_csv), ("a.json", plane.to_json)):
        text = write(tmp_path / name)
        assert (tmp_path / name).read_text() == text
    assert {f.name for f in tmp_path.iterdir()} == {"a.csv", "a.json"}


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"x": 3, "y": 2, "metrics": {}})])
def test_what_is_no_plane_is_not_read(text: str) -> None:
    with pytest.raises(FileFormatError, match="text: expected"):
        fr.Plane.from_json(text)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": (0, 0, 1)}, "x: expected places that increase"),
        ({"y": (0,)}, "y: expected places that increase"),
        ({"corners": CORNERS[:2]}, "corners: expected 3 places"),
        ({"metrics": {"loss": ((1, 2, 3),)}}, "expected 'loss' and the same in at_corners"),
        ({"y": (0, 1, 2)}, "metrics: expected 3 rows of 3 values of 'loss', found"),
    ],
)
def test_a_plane_is_checked_when_it_is_made(changed: dict[str, Any], message: str) -> None:
    plane = plane_of([0.0] * 6)
    right = {n: getattr(plane, n) for n in ("x", "y", "metrics", "corners", "at_corners")}
    with pytest.raises(InvalidArgumentError, match=message):
        fr.Plane(**{**right, **changed})


def test_a_plane_prints_its_models() -> None:
    text = str(plane_of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    assert text.splitlines() == [
        "plane of 3 x 2 points: loss 1 to 6",
        "  model    x  y  loss  accuracy",
        "  A        0  0     1         1",
        "  B        1  0     2         2",
        "  C      0.5  1     3         3",
    ]
    assert plane_of([math.nan] * 6)._repr_html_().count("<tr>") == 4


def test_a_drawing_names_the_models_and_is_written_whole(tmp_path: FilePath) -> None:
    plane = plane_of([0.01, 2.0, 30.0, 4.0, 5.0, 6.0])
    target = tmp_path / "plane.png"
    figure = plane.plot(target, labels=("A", "B", "$B$ aligned"), title="MLP")
    panel, scale = figure.axes
    assert [text.get_text() for text in panel.texts] == ["A", "B", "$B$ aligned"]
    assert panel.get_title(loc="left") == "MLP: loss"
    assert scale.get_ylim() == pytest.approx((0.01, 30))
    assert target.read_bytes().startswith(b"\x89PNG")
    assert [*tmp_path.iterdir()] == [target]
    with pytest.raises(InvalidArgumentError, match="the ending must be one of"):
        plane.plot(tmp_path / "plane.txt")
    assert [*tmp_path.iterdir()] == [target]


@pytest.mark.parametrize(
    "values",
    [
        [math.nan] * 6,
        [2.0] * 6,
        [1.0, math.nan, 3.0, math.inf, 5.0, 6.0],
        [-1.0, 1e30, 3.0, 4.0, 5.0, 6.0],
        [1e-300, 1e300, 3.0, 4.0, 5.0, 6.0],
    ],
)
def test_any_plane_can_be_drawn(values: list[float], tmp_path: FilePath) -> None:
    for metric in ("loss", "accuracy"):
        plane_of(values).plot(tmp_path / "a.svg", metric=metric)
        assert "<svg" in (tmp_path / "a.svg").read_text()


def test_levels_are_logarithmic_where_losses_differ_much() -> None:
    plane = plane_of([0.01, 0.1, 1.0, 10.0, 0.1, 1.0])
    ratios: list[float] = []
    steps: list[float] = []
    for metric, found in (("loss", ratios), ("accuracy", steps)):
        ticks = plane.plot(metric=metric, levels=6).axes[1].get_yticks().tolist()
        found += [b / a if metric == "loss" else b - a for a, b in pairwise(ticks)]
    assert max(ratios) == pytest.approx(min(ratios))
    assert max(steps) == pytest.approx(min(steps))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "f1"}, r"metric: expected one of \['loss', 'accuracy'\], found 'f1'"),
        ({"levels": 1}, "levels: expected a whole number, at least 2, found 1"),
        ({"labels": ("A", "B")}, "labels: expected a list of 3 names, found a tuple of 2"),
        ({"labels": "ABC"}, "labels: expected a list of names of the three models"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        plane_of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).plot(**options)
