"""One call merges models, however they are given, and says what each step was worth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import ArchitectureMismatchError, InvalidArgumentError, VerificationError

X = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 4)),
    )
    with torch.no_grad():
        model.train()(X)
    return model.eval()


@torch.no_grad()
def loss(model: nn.Module) -> Tensor:
    return model(X).square().mean()


def permuted_copies(count: int) -> list[nn.Module]:
    model = net(0)
    symmetry = fr.analyze(model, (X[:2],))
    generator = torch.Generator().manual_seed(1)
    moved = (fr.Permutation.random(symmetry, generator).apply_to(model) for _ in range(count - 1))
    return [model, *moved]


METHODS = [
    fr.merge_methods.to_reference,
    fr.merge_methods.sequential,
    fr.merge_methods.many,
    fr.merge_methods.tree,
    fr.merge_methods.cycle_consistent,
]


@pytest.mark.parametrize("method", METHODS)
def test_copies_in_other_orders_merge_to_what_they_are(method: fr.MergeMethod) -> None:
    models = permuted_copies(4)
    merged = fr.merge(models, (X,), method=method, progress=False)
    for name, tensor in models[0].state_dict().items():
        torch.testing.assert_close(merged.state_dict()[name], tensor, atol=1e-5, rtol=1e-5)
    assert merged.report.permutations[0].is_identity
    assert merged.report.error < 1e-10


def test_the_result_is_the_mean_of_permuted_parents() -> None:
    models = [net(k) for k in range(3)]
    before = [{n: t.clone() for n, t in m.state_dict().items()} for m in models]
    merged = fr.merge(models, (X,), weights=[2, 1, 1], progress=False)
    states = [
        p.apply(m.state_dict()) for p, m in zip(merged.report.permutations, models, strict=True)
    ]
    for name, tensor in merged.state_dict().items():
        if tensor.is_floating_point():
            parts = (w * s[name] for w, s in zip((0.5, 0.25, 0.25), states, strict=True))
            torch.testing.assert_close(tensor, sum(parts))
    assert isinstance(merged, fr.MergedModule)
    assert merged.__class__.__name__ == "Sequential"
    assert not merged.training
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_dtype_is_merged_into_one_of_the_first_ones(dtype: torch.dtype) -> None:
    a, b = net(0), net(1).to(dtype)
    merged = fr.merge([a, b], data=[(X,)], progress=False)
    assert {t.dtype for t in merged.state_dict().values()} == {torch.float32, torch.int64}
    expected = fr.merge([a, net(1)], data=[(X,)], progress=False)
    tolerance = 1e-5 if dtype == torch.float64 else 0.1
    torch.testing.assert_close(merged(X), expected(X), rtol=tolerance, atol=tolerance)
    assert all(t.dtype == dtype for t in b.parameters())


def test_models_are_given_as_modules_state_dicts_and_files(tmp_path: Path) -> None:
    a, b, c = (net(k) for k in range(3))
    save_file(b.state_dict(), tmp_path / "b.safetensors")
    torch.save({"epoch": 1, "state_dict": c.state_dict()}, tmp_path / "c.pt")
    options: dict[str, Any] = {"args": (X,), "seed": 3, "progress": False}
    expected = fr.merge([a, b, c], **options)
    mixed: list[fr.Parent] = [a, tmp_path / "b.safetensors", str(tmp_path / "c.pt")]
    in_memory: list[fr.Parent] = [a, b.state_dict(), c.state_dict()]
    for models in (mixed, in_memory):
        found = fr.merge(models, **options)
        for name, tensor in expected.state_dict().items():
            assert torch.equal(found.state_dict()[name], tensor)
    symmetry = fr.analyze(a, (X,))
    states = [m.state_dict() for m in (a, b, c)]
    alone = fr.merge(states, symmetry=symmetry, seed=3, progress=False)
    assert isinstance(alone, fr.Merged)
    assert all(torch.equal(t, alone.state_dict[n]) for n, t in expected.state_dict().items())


def test_with_data_statistics_are_those_of_the_parents() -> None:
    models = [net(k) for k in range(2)]
    merged = fr.merge(models, data=[X], progress=False)
    report = merged.report
    assert report.chosen.name == "weights + repair"
    assert report.repair is not None
    with torch.no_grad():
        moved = report.permutations[1].apply_to(models[1])
        parents = [model[3](model[:3](X)) for model in (models[0], moved)]
        found = merged[3](merged[:3](X))  # type: ignore[index]
    for one in (torch.mean, torch.std):
        goal = sum(one(p.transpose(0, 1).flatten(1), dim=1) for p in parents) / 2
        torch.testing.assert_close(
            one(found.transpose(0, 1).flatten(1), dim=1), goal, atol=1e-4, rtol=1e-3
        )


@pytest.mark.parametrize("choose", [min, max])
def test_what_is_chosen_is_the_best_of_what_was_tried(choose: Callable[..., float]) -> None:
    merged = fr.merge([net(0), net(1)], data=[X], evaluate=loss, choose=choose, progress=False)
    report = merged.report
    losses = [trial.metrics["loss"] for trial in report.tried]
    assert report.chosen.metrics["loss"] == choose(losses)
    assert float(loss(merged)) == pytest.approx(choose(losses))
    assert {trial.alignment for trial in report.tried} == {
        *("weights", "as they came", "activations", "weights from activations")
    }
    assert len(report.tried) == 12


def test_numbers_are_those_of_the_models() -> None:
    models = [net(0), net(1)]
    merged = fr.merge(models, (X,), evaluate=loss, progress=False)
    report = merged.report
    assert [m["loss"] for m in report.parents] == pytest.approx([float(loss(m)) for m in models])
    halves = (float(loss(m)) / 2 for m in models)
    assert report.barrier == pytest.approx(float(loss(merged)) - sum(halves))
    midpoint = fr.merge(models, (X,), method=fr.merge_methods.mean, progress=False)
    assert report.naive["loss"] == pytest.approx(float(loss(midpoint)))
    text = str(report)
    assert "mean as they came" in text
    assert "weights *" in text
    assert "give data=" in text  # the statistics of BatchNorm are averages
    assert repr(report).startswith("MergeReport(2 models, weights, moved [0, ")


def test_evaluation_may_do_with_a_model_what_it_likes() -> None:
    def spoils(model: nn.Module) -> float:
        value = float(loss(model))
        model.train()
        model(X)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return value

    models = [net(0), net(1)]
    merged = fr.merge(models, (X,), evaluate=spoils, progress=False)
    assert float(loss(merged)) == merged.report.chosen.metrics["loss"]
    assert not merged.training


def test_what_rebasin_returns_is_merged_as_well() -> None:
    a, b = net(0), net(1)
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    merged = fr.merge([aligned, a], (X,), progress=False)
    assert isinstance(merged, fr.MergedModule)
    assert merged.report.symmetry.movable_units == 11
    assert isinstance(aligned.report, fr.Report)


def test_without_evaluation_there_is_no_barrier() -> None:
    report = fr.merge([net(0), net(1)], (X,), progress=False).report
    assert report.barrier != report.barrier
    assert report.parents == ()


def test_only_batch_norm_is_measured_afresh() -> None:
    models = [net(0), net(1)]
    merged = fr.merge(models, data=[X], repair="batch_norm", progress=False)
    expected = fr.recompute_batch_norm(fr.merge(models, (X,), progress=False), [X])
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(merged.state_dict()[name], tensor)


def test_models_of_one_ancestor_are_said_to_be() -> None:
    model = net(0)
    tuned = net(0)
    with torch.no_grad():
        next(tuned.parameters()).add_(1e-3)
    report = fr.merge([model, tuned], (X,), progress=False).report
    assert "common ancestor" in str(report)


def test_what_computes_something_else_is_refused() -> None:
    """A symmetry that does not hold is not believed."""
    wrong = nn.Sequential(nn.Linear(4, 6), nn.Softmax(1), nn.Linear(6, 2))
    right = nn.Sequential(nn.Linear(4, 6), nn.Softmax(1), nn.Linear(6, 2))
    symmetry = fr.analyze(wrong, (torch.zeros(1, 4),))

    class Slices(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            hidden = self[0](x)
            return self[2](torch.cat([hidden[:, :3] * 2, hidden[:, 3:]], dim=1))

    models = [Slices(*wrong), Slices(*right)]
    with pytest.raises(VerificationError):
        fr.merge(models, (torch.randn(5, 4),), symmetry=symmetry, progress=False)


def test_models_that_do_not_fit_are_refused() -> None:
    other = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4))
    with pytest.raises(ArchitectureMismatchError, match=r"models\[1\]"):
        fr.merge([net(0), other], (X,), progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"choose": min}, "choose"),
        ({"choose": sum, "evaluate": loss}, "choose"),
        ({"repair": "rescale"}, "repair"),
        ({"repair": "all"}, "repair"),
        ({"weights": [1, 2, 3]}, "weights"),
        ({"data": X}, "data"),
        ({"data": iter([X])}, "data"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        fr.merge([net(0), net(1)], (X,), progress=False, **options)


def test_state_dicts_alone_want_a_symmetry() -> None:
    states = [net(k).state_dict() for k in range(2)]
    with pytest.raises(InvalidArgumentError, match="symmetry"):
        fr.merge(states, (X,), progress=False)
    symmetry = fr.analyze(net(0), (X,))
    with pytest.raises(InvalidArgumentError, match="evaluate"):
        fr.merge(states, (X,), symmetry=symmetry, evaluate=loss, progress=False)


def test_options_of_a_method_are_given_by_partial() -> None:
    solver = partial(fr.solvers.coordinate_descent, max_sweeps=0)
    method = partial(fr.merge_methods.to_reference, solver=solver)
    models = [net(0), net(1)]
    merged = fr.merge(models, (X,), method=method, progress=False)
    symmetry = merged.report.symmetry
    states: dict[str, Any] = {"state_dict": models[1].state_dict(), "to": models[0].state_dict()}
    found = fr.match(symmetry, **states, solver=solver, progress=False)
    assert merged.report.permutations[1] == found
