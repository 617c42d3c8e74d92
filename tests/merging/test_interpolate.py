"""The line between two models: what is evaluated, what is reported, what is drawn."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxrebasin.api import analyze
from fxrebasin.errors import ArchitectureMismatchError, InvalidArgumentError
from fxrebasin.merging.interpolate import Path, interpolate
from fxrebasin.symmetry.permutation import Permutation


class _Net(nn.Module):
    """A little of everything: BatchNorm, dropout, tied weights, an integer buffer."""

    steps: Tensor

    def __init__(self, seed: int, width: int = 5) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.enter = nn.Linear(3, width)
        self.norm = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(0.5)
        self.leave = nn.Linear(width, 3, bias=False)
        self.again = nn.Linear(width, 3, bias=False)
        self.again.weight = self.leave.weight
        self.register_buffer("steps", torch.tensor(seed))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.drop(torch.relu(self.norm(self.enter(x))))
        result: Tensor = self.leave(hidden) + self.again(hidden)
        return result


def _loader() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(8, 3, generator=generator) for _ in range(3)]


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _collect(a: nn.Module, b: nn.Module, **options: Any) -> tuple[Path, list[dict[str, Tensor]]]:
    seen: list[dict[str, Tensor]] = []

    def evaluate(model: nn.Module) -> float:
        seen.append(_snapshot(model))
        return 0.0

    return interpolate(a, b, evaluate, **options), seen


def test_ends_are_the_models_bit_for_bit() -> None:
    a, b = _Net(0), _Net(1)
    _, seen = _collect(a, b)
    for name, tensor in a.state_dict().items():
        assert torch.equal(seen[0][name], tensor)
    for name, tensor in b.state_dict().items():
        if tensor.is_floating_point():
            assert torch.equal(seen[-1][name], tensor)


def test_between_the_ends_lies_the_weighted_mean() -> None:
    a, b = _Net(0), _Net(1)
    path, seen = _collect(a, b, steps=5)
    for t, state in zip(path.points, seen, strict=True):
        expected = (1 - t) * a.enter.weight + t * b.enter.weight
        torch.testing.assert_close(state["enter.weight"], expected.detach())


def test_integer_buffers_are_those_of_a() -> None:
    _, seen = _collect(_Net(4), _Net(6), steps=3)
    assert [int(state["steps"]) for state in seen] == [4, 4, 4]


@pytest.mark.parametrize(
    ("steps", "points"),
    [
        (2, (0.0, 0.5, 1.0)),
        (3, (0.0, 0.5, 1.0)),
        (4, (0.0, 1 / 3, 0.5, 2 / 3, 1.0)),
        (5, (0.0, 0.25, 0.5, 0.75, 1.0)),
    ],
)
def test_points_are_even_and_hold_the_midpoint(steps: int, points: tuple[float, ...]) -> None:
    assert interpolate(_Net(0), _Net(1), lambda _: 0.0, steps=steps).points == points


def test_low_precision_is_interpolated_in_float32() -> None:
    a, b = nn.Linear(64, 64).bfloat16(), nn.Linear(64, 64).bfloat16()
    path, seen = _collect(a, b, steps=11)
    for t, state in zip(path.points[1:-1], seen[1:-1], strict=True):
        expected = torch.lerp(a.weight.float(), b.weight.float(), t).bfloat16()
        assert state["weight"].dtype == torch.bfloat16
        assert torch.equal(state["weight"], expected)


def test_equal_weights_stay_equal_all_along() -> None:
    a = _Net(0)
    _, seen = _collect(a, copy.deepcopy(a))
    assert all(torch.equal(state["enter.weight"], a.enter.weight) for state in seen)


def test_tied_weights_stay_tied() -> None:
    def evaluate(model: nn.Module) -> float:
        assert isinstance(model, _Net)
        assert model.leave.weight is model.again.weight
        return 0.0

    assert interpolate(_Net(0), _Net(1), evaluate, steps=3).losses == (0.0, 0.0, 0.0)


def test_neither_model_nor_the_random_state_changes() -> None:
    a, b = _Net(0).train(), _Net(1).eval()
    fired: list[int] = []
    a.enter.register_forward_hook(lambda *_: fired.append(1))
    states, random_state = (_snapshot(a), _snapshot(b)), torch.get_rng_state()

    def evaluate(model: nn.Module) -> float:
        model.train()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        return model(torch.randn(8, 3)).mean().item()

    interpolate(a, b, evaluate, steps=3, loader=_loader())
    assert fired  # a's hooks belong to what a computes, so its copy has them too
    assert len(a.enter._forward_hooks) == 1
    assert a.training
    assert a.norm.momentum == 0.1
    assert not b.training
    assert torch.equal(torch.get_rng_state(), random_state)
    for model, state in zip((a, b), states, strict=True):
        assert all(torch.equal(state[name], t) for name, t in model.state_dict().items())


def test_every_point_is_evaluated_in_eval_mode_with_the_same_random_numbers() -> None:
    draws = []

    def evaluate(model: nn.Module) -> float:
        assert not model.training
        draws.append(torch.rand(()).item())
        return 0.0

    interpolate(_Net(0).train(), _Net(1), evaluate, steps=5)
    assert len(draws) == 5
    assert len(set(draws)) == 1


def test_batch_norm_is_recomputed_at_every_point_if_there_is_a_loader() -> None:
    a, b = _Net(0), _Net(1)
    path, seen = _collect(a, b, steps=3, loader=_loader(), batches=2)
    assert path.batch_norm_recomputed
    assert "BatchNorm statistics recomputed" in str(path)
    for t, state in zip(path.points, seen, strict=True):
        weight = torch.lerp(a.enter.weight, b.enter.weight, t)
        bias = torch.lerp(a.enter.bias, b.enter.bias, t)
        hidden = [nn.functional.linear(x, weight, bias) for x in _loader()[:2]]
        expected = torch.stack([h.mean(0) for h in hidden]).mean(0).detach()
        torch.testing.assert_close(state["norm.running_mean"], expected)


def test_a_loader_is_not_claimed_to_matter_without_batch_norm() -> None:
    path = interpolate(nn.Linear(3, 2), nn.Linear(3, 2), lambda _: 0.0, steps=3, loader=_loader())
    assert not path.batch_norm_recomputed


def test_b_may_be_a_graph_module() -> None:
    a, b = _Net(0), _Net(1)
    b_graph = torch.fx.symbolic_trace(nn.Sequential(b.enter, b.norm))
    x = _loader()[0]
    path = interpolate(
        nn.Sequential(a.enter, a.norm).eval(), b_graph, lambda m: m(x).square().mean(), steps=3
    )
    assert path.losses[-1] == b_graph.eval()(x).square().mean().item()


def test_with_a_symmetry_b_is_aligned_first() -> None:
    a, x = _Net(0).eval(), torch.randn(4, 3)
    symmetry = analyze(a, args=(x,))
    assert symmetry.movable_units
    b = Permutation.random(symmetry, torch.Generator().manual_seed(2)).apply_to(a)
    kept = _snapshot(b)

    def evaluate(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model(x) - a(x)).abs().max())

    path = interpolate(a, b, evaluate, symmetry=symmetry, progress=False)
    assert max(path.losses) < 1e-6
    assert max(interpolate(a, b, evaluate, progress=False).losses) > 1e-2
    assert all(torch.equal(kept[name], tensor) for name, tensor in b.state_dict().items())


def test_a_layer_with_extra_state_can_be_interpolated() -> None:
    class WithExtra(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 3}

        def set_extra_state(self, state: object) -> None:
            raise AssertionError("nothing should be loaded here")

    assert interpolate(WithExtra(2, 2), WithExtra(2, 2), lambda _: 1.0, steps=3).barrier == 0.0


@pytest.mark.parametrize(
    ("b", "message"),
    [
        (_Net(1, width=6), r"'enter.weight' has shape \(5, 3\) in a, but \(6, 3\) in b"),
        (
            _Net(1).double(),
            r"'enter.weight' is torch.float32 in a, but torch.float64 in b",
        ),
        (
            nn.Sequential(_Net(1)),
            r"a has 'steps' of shape \(\), which b does not have",
        ),
    ],
)
def test_the_first_tensor_that_differs_is_named(b: nn.Module, message: str) -> None:
    with pytest.raises(ArchitectureMismatchError, match=message):
        interpolate(_Net(0), b, lambda _: 0.0)


def test_a_tensor_that_only_b_has_is_named() -> None:
    message = r"b has 'bias' of shape \(2,\), which a does not have"
    with pytest.raises(ArchitectureMismatchError, match=message):
        interpolate(nn.Linear(3, 2, bias=False), nn.Linear(3, 2), lambda _: 0.0)


def test_a_model_that_keeps_what_forward_computed_is_copied() -> None:
    class Keeping(nn.Linear):
        last: Tensor | None = None

        def forward(self, input: Tensor) -> Tensor:
            self.last = super().forward(input)
            return self.last

    a, b = Keeping(3, 2), Keeping(3, 2)
    a(torch.ones(1, 3))
    kept = a.last
    path = interpolate(a, b, lambda model: model(torch.ones(1, 3)).sum(), steps=3)
    assert path.losses[1] == pytest.approx((path.losses[0] + path.losses[2]) / 2)
    assert a.last is kept


def test_weights_tied_in_a_alone_must_be_equal_in_b() -> None:
    b = _Net(1)
    b.again = nn.Linear(5, 3, bias=False)
    with pytest.raises(ArchitectureMismatchError, match=r"'leave.weight' and 'again.weight'"):
        interpolate(_Net(0), b, lambda _: 0.0)
    assert interpolate(b, _Net(0), lambda _: 0.0, steps=3).losses == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("steps", [1, 0, -3, 2.0, True, "11"])
def test_steps_must_be_a_whole_number_from_two(steps: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="steps must be a whole number, at least 2"):
        interpolate(_Net(0), _Net(1), lambda _: 0.0, steps=steps)


def test_a_loader_that_can_be_read_only_once_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="pass a list or a DataLoader"):
        interpolate(_Net(0), _Net(1), lambda _: 0.0, loader=iter(_loader()))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "got NoneType for 'loss'"),
        ("1.0", "got str for 'loss'"),
        (torch.ones(2), "got Tensor for 'loss'"),
        ({"accuracy": 1.0}, r"a mapping with 'loss', got the keys \['accuracy'\]"),
        ({"loss": 1.0, "accuracy": [1]}, "got list for 'accuracy'"),
    ],
)
def test_evaluate_must_return_numbers(result: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        interpolate(_Net(0), _Net(1), lambda _: result)


def test_evaluate_must_return_the_same_metrics_everywhere() -> None:
    results = iter([{"loss": 1.0, "accuracy": 0.5}, {"loss": 1.0}])
    with pytest.raises(InvalidArgumentError, match=r"\['loss', 'accuracy'\] at t = 0"):
        interpolate(_Net(0), _Net(1), lambda _: next(results), steps=3)


def test_evaluate_may_return_a_tensor_that_wants_gradients() -> None:
    x = torch.ones(1, 3)
    path = interpolate(nn.Linear(3, 1), nn.Linear(3, 1), lambda model: model(x).sum(), steps=3)
    assert path.barrier == pytest.approx(0, abs=1e-6)


def test_the_loss_comes_first_whatever_its_place() -> None:
    path = interpolate(_Net(0), _Net(1), lambda _: {"accuracy": 0.5, "loss": torch.tensor(2.0)})
    assert [*path.metrics] == ["loss", "accuracy"]
    assert path.losses[0] == 2.0


@pytest.mark.parametrize(
    ("losses", "barrier"),
    [
        ((0.0, 1.0, 0.0), 1.0),
        ((1.0, 2.0, 3.0), 0.0),  # a slope is no barrier
        ((1.0, 1.5, 3.0), 0.0),  # nor is a valley
        ((0.0, 3.0, 4.0), 1.0),
        ((1.0, math.nan, 1.0), math.nan),
        ((1.0, 1.0, math.nan), math.nan),
    ],
)
def test_the_barrier_is_the_height_above_the_line_of_end_losses(
    losses: tuple[float, ...], barrier: float
) -> None:
    assert Path((0, 0.5, 1), {"loss": losses}).barrier == pytest.approx(barrier, nan_ok=True)


def test_nan_is_reported_as_it_is() -> None:
    path = interpolate(_Net(0), _Net(1), lambda _: math.nan, steps=3)
    assert all(math.isnan(loss) for loss in path.losses)
    assert math.isnan(path.barrier)
    assert json.loads(path.to_json())["barrier"] is None


@pytest.mark.parametrize(
    ("points", "metrics", "message"),
    [
        ((0, 0.5), {"loss": (1, 2)}, "points must increase from 0 to 1"),
        ((0, 0.7, 0.2, 1), {"loss": (1, 2, 3, 4)}, "points must increase from 0 to 1"),
        ((), {"loss": ()}, "points must increase from 0 to 1"),
        ((0, 1), {"accuracy": (1, 2)}, "metrics must have 'loss'"),
        ((0, 1), {"loss": (1, 2, 3)}, "metric 'loss' has 3 values for 2 points"),
    ],
)
def test_a_path_is_checked_when_it_is_made(
    points: tuple[float, ...], metrics: Mapping[str, tuple[float, ...]], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Path(points, metrics)


def test_the_midpoint_is_only_given_if_it_was_measured() -> None:
    assert Path((0, 0.5, 1), {"loss": (1, 2, 3)}).midpoint == {"loss": 2.0}
    with pytest.raises(InvalidArgumentError, match=r"no point t = 0\.5"):
        _ = Path((0, 1), {"loss": (1, 3)}).midpoint


def test_json_and_html_hold_every_value() -> None:
    path = Path((0, 0.5, 1), {"loss": (1, 4, 2), "a < b": (0.25, 0.5, 0.75)})
    data = json.loads(path.to_json())
    assert data["points"] == [0, 0.5, 1]
    assert data["metrics"] == {"loss": [1, 4, 2], "a < b": [0.25, 0.5, 0.75]}
    assert data["barrier"] == 2.5
    page = path._repr_html_()
    assert page.count("<tr>") == 4
    assert "a &lt; b" in page
    assert "a < b" not in page


_HILL = Path((0, 0.5, 1), {"loss": (1.0, 4.0, 2.0), "accuracy": (0.9, 0.4, 0.8)})
_FLAT = Path((0, 0.25, 0.5, 1), {"loss": (1.0, 1.2, 1.6, 2.0), "accuracy": (0.9, 0.9, 0.9, 0.8)})


def test_a_plot_names_its_curves_and_the_barrier(tmp_path: FilePath) -> None:
    target = tmp_path / "barrier.png"
    figure = _HILL.plot(target, compare=_FLAT, labels=("naive", "aligned"), title="MLP")
    loss, accuracy = figure.axes
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["MLP: loss", "MLP: accuracy"]
    words = [text.get_text() for text in loss.texts]
    assert "naive" in words
    assert "barrier\n2.5" in words
    assert "aligned (barrier 0.1)" in words
    assert [text.get_text() for text in accuracy.texts] == ["naive", "aligned"]
    assert target.read_bytes().startswith(b"\x89PNG")
    assert [*tmp_path.iterdir()] == [target]


def test_two_barriers_at_one_place_are_told_on_both_sides() -> None:
    other = Path((0, 0.5, 1), {"loss": (1.0, 3.0, 2.0)})
    (panel,) = _HILL.plot(compare=other).axes
    told = {t.get_text(): t.get_horizontalalignment() for t in panel.texts}
    assert told["barrier\n2.5"] == "right" and told["barrier\n1.5"] == "left"
    (alone,) = other.plot().axes
    told = {t.get_text(): t.get_horizontalalignment() for t in alone.texts}
    assert told["barrier\n1.5"] == "center"


def test_a_path_with_nan_can_be_drawn(tmp_path: FilePath) -> None:
    path = Path((0, 0.5, 1), {"loss": (1.0, math.nan, 2.0)})
    path.plot(tmp_path / "nan.svg", compare=_HILL)
    assert "<svg" in (tmp_path / "nan.svg").read_text()


def test_a_plot_leaves_an_old_file_alone_if_it_fails(tmp_path: FilePath) -> None:
    target = tmp_path / "barrier.txt"
    target.write_text("old")
    with pytest.raises(InvalidArgumentError, match=r"the ending must be one of \["):
        _HILL.plot(target)
    assert target.read_text() == "old"
    with pytest.raises(FileNotFoundError):
        _HILL.plot(tmp_path / "missing" / "barrier.png")
    assert [*tmp_path.iterdir()] == [target]


@pytest.mark.parametrize("labels", ["naive", ("one",), ("one", "two", "three")])
def test_a_plot_needs_one_label_per_path(labels: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="labels must name 2 paths"):
        _HILL.plot(compare=_FLAT, labels=labels)


def test_plotting_touches_nothing_global() -> None:
    code = (
        "import sys, matplotlib\n"
        "settings = matplotlib.rcParams.copy()\n"
        "from fxrebasin.merging.interpolate import Path\n"
        "Path((0, 1), {'loss': (1, 2)}).plot()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert matplotlib.rcParams.copy() == settings\n"  # itself imports pyplot, so it is last
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fxrebasin\[plot\]'"):
        _HILL.plot()
