"""After REPAIR the layers of a merged model have the statistics that they have in its parents."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from merges import mean_of, parents, statistics
from torch import Tensor, nn
from torch.nn.utils import prune

import fxrebasin as fr
from fxrebasin.errors import ArchitectureMismatchError, InvalidArgumentError, InvalidInputError
from fxrebasin.repair import watching


def mlp(depth: int = 3, width: int = 12, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for k in range(depth):
        layers += [nn.Linear(width if k else 4, width, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 3))


def with_norms() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(4, 10), nn.LayerNorm(10), nn.GELU(), nn.Linear(10, 12), nn.Tanh()),
        *(nn.Linear(12, 8), nn.RMSNorm(8), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 2)),
    )


def convolutions() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, groups=4), nn.ReLU()),
        *(nn.ConvTranspose2d(12, 8, 2, stride=2, groups=2), nn.GroupNorm(2, 8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(8 * 5 * 5, 10), nn.ReLU(), nn.Linear(10, 3)),
    )


class Residual(nn.Module):
    """Two branches that both can be scaled, and one that the identity skips."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.one, self.two = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.short = nn.Conv2d(6, 8, 1)
        self.three = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.two(self.one(x).relu()) + self.short(x)).relu()
        x = (x + self.three(x)).relu()
        result: Tensor = self.head(x.mean((2, 3)))
        return result


def encoder(norm_first: bool = False) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def vectors(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(n, 4, generator=generator) * 2 + 1 for n in sizes]


def images(*sizes: int, side: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(n, 3, side, side, generator=generator) for n in sizes]


def sequences(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(n, 5, 8, generator=generator) for n in sizes]


NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[Tensor]]] = {
    "mlp": (mlp, vectors(32, 20)),
    "norms": (with_norms, vectors(32, 20)),
    "convolutions": (convolutions, images(12, 7)),
    "residual": (Residual, images(12, 7)),
    "attention": (encoder, sequences(12, 7)),
    "pre-norm": (lambda: encoder(norm_first=True), sequences(12, 7)),
}


def repaired(name: str, **options: Any) -> tuple[Any, list[Any], list[Tensor]]:
    make, data = NETWORKS[name]
    models = parents(make)
    merged = mean_of(models)
    options = {"data": data, **options}
    result = fr.repair(merged, like=models, progress=False, **options)
    return result, models, options["data"]


def report_of(model: nn.Module) -> fr.RepairReport:
    report = vars(model)["repair_report"]
    assert isinstance(report, fr.RepairReport)
    return report


def in_sums(report: fr.RepairReport) -> set[str]:
    """The layers that are scaled once more, so that their sum is right."""
    return {name for place in report if place.kind == "sum" for name in place.name.split(" + ")}


def assert_goals(
    model: nn.Module,
    models: list[nn.Module],
    data: list[Tensor],
    weights: tuple[float, ...] = (0.5, 0.5),
    *,
    means: bool = True,
) -> None:
    """The statistics of every layer of the report are the weighted means of the parents'."""
    report = report_of(model)
    found = statistics(model, data)
    known = [statistics(parent, data) for parent in models]
    layers = [place.name for place in report if place.kind not in ("sum", "batch_norm")]
    assert layers
    for name in set(layers) - in_sums(report):
        mean = sum(w * k[name][0] for w, k in zip(weights, known, strict=True))
        std = sum(w * k[name][1] for w, k in zip(weights, known, strict=True))
        assert isinstance(std, Tensor)
        torch.testing.assert_close(found[name][1], std, rtol=2e-4, atol=1e-6)
        if means:
            off = ((found[name][0] - mean) / std)[std > 1e-6 * std.max()]
            torch.testing.assert_close(off, torch.zeros_like(off), rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_in_turn_every_layer_reaches_its_goal(name: str) -> None:
    result, models, data = repaired(name, sequential=True)
    assert_goals(result, models, data)
    for place in report_of(result):
        if place.name not in in_sums(report_of(result)):
            assert place.std_after == pytest.approx(1.0, abs=1e-3)
            assert place.mean_after < 1e-3


@pytest.mark.parametrize("name", ["norms", "convolutions", "residual"])
def test_a_graph_of_modules_serves_as_well(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "GRAPHS", ("symbolic_trace",))
    result, models, data = repaired(name, sequential=True)
    assert_goals(result, models, data)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_every_precision(dtype: torch.dtype) -> None:
    models = [model.to(dtype) for model in parents(mlp)]
    data = [batch.to(dtype) for batch in vectors(64, 64)]
    merged = mean_of(models)
    result = fr.repair(merged, like=models, data=data, sequential=True, progress=False)
    assert {parameter.dtype for parameter in result.parameters()} == {dtype}
    for place in report_of(result):
        coarse = dtype == torch.bfloat16
        assert place.std_after == pytest.approx(1.0, abs=2e-2 if coarse else 1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_at_once_it_is_exact_on_one_batch(name: str) -> None:
    data = [torch.cat(NETWORKS[name][1])]
    assert_goals(*repaired(name, data=data))


@pytest.mark.parametrize("method", ["repair", "rescale"])
def test_at_once_it_is_close_on_several_batches(method: Any) -> None:
    result, _, _ = repaired("mlp", data=vectors(*[32] * 8), method=method)
    for place in report_of(result):
        assert place.std_before < 0.9
        assert place.std_after == pytest.approx(1.0, abs=0.05)
        assert place.mean_after < 0.05 or method == "rescale"


@settings(max_examples=5, deadline=None)
@given(
    sizes=st.lists(st.integers(3, 9), min_size=1, max_size=4),
    activation=st.sampled_from([nn.ReLU, nn.Tanh, nn.GELU]),
    shares=st.tuples(st.floats(0.1, 2.0), st.floats(0.1, 2.0), st.floats(0.1, 2.0)),
    sequential=st.booleans(),
    seed=st.integers(0, 99),
)
def test_weighted_goals_of_random_networks(
    sizes: list[int],
    activation: type[nn.Module],
    shares: tuple[float, float, float],
    sequential: bool,
    seed: int,
) -> None:
    def make() -> nn.Module:
        layers: list[nn.Module] = []
        for before, after in zip([4, *sizes], sizes, strict=False):
            layers += [nn.Linear(before, after), activation()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], 2))

    models = parents(make, 3, seed)
    weights = tuple(share / sum(shares) for share in shares)
    data = vectors(64)
    result = fr.repair(
        mean_of(models, weights),
        like=models,
        data=data,
        weights=shares,
        sequential=sequential,
        progress=False,
    )
    report = report_of(result)
    if not any(place.quiet for place in report):
        assert_goals(result, models, data, weights)


@pytest.mark.parametrize("sequential", [False, True])
def test_rescale_reaches_deviations_by_scaling_alone(sequential: bool) -> None:
    data = [torch.cat(vectors(32, 20))]
    result, models, data = repaired("mlp", method="rescale", sequential=sequential, data=data)
    assert_goals(result, models, data, means=False)
    merged = mean_of(models)
    for layer, before in zip(result.children(), merged.children(), strict=True):
        if isinstance(layer, nn.Linear) and isinstance(before, nn.Linear):
            ratio = layer.bias / before.bias
            torch.testing.assert_close(layer.weight, before.weight * ratio[:, None])


def test_reshift_reaches_means_by_adding_alone() -> None:
    result, models, data = repaired("mlp", method="reshift", sequential=True)
    for name, (mean, _) in statistics(result, data).items():
        if name in [place.name for place in report_of(result)]:
            goal = sum(statistics(parent, data)[name][0] for parent in models) / 2
            torch.testing.assert_close(mean, goal, rtol=1e-4, atol=1e-5)
    merged = mean_of(models).state_dict()
    for name, tensor in result.state_dict().items():
        assert torch.equal(tensor, merged[name]) or name.endswith("bias"), name


def test_in_turn_the_size_of_batches_makes_no_difference() -> None:
    whole = torch.cat(images(12, 7))
    one, _, _ = repaired("residual", sequential=True, data=[whole])
    other, _, _ = repaired("residual", sequential=True, data=list(whole.split(5)))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_a_sum_reaches_its_goal_through_both_layers_that_feed_it() -> None:
    result, models, data = repaired("residual", sequential=True)
    report = report_of(result)
    assert report["two + short"].kind == "sum"
    assert report["two + short"].std_after == pytest.approx(1.0, abs=1e-4)
    assert "not both" in next(why for name, why in report.left.items() if "sum" in name)

    def sums(model: Any) -> Tensor:
        with torch.no_grad():
            x = torch.cat(data)
            x = model.stem(x).relu()
            y: Tensor = model.two(model.one(x).relu()) + model.short(x)
        return y.double().movedim(1, 0).flatten(1)

    goal = sum(sums(parent).std(1, correction=0) for parent in models) / 2
    torch.testing.assert_close(sums(result).std(1, correction=0), goal, rtol=1e-4, atol=0)


@pytest.mark.parametrize("sequential", [False, True])
def test_batch_norm_is_measured_afresh_and_what_is_before_it_left_alone(sequential: bool) -> None:
    def make() -> nn.Module:
        return nn.Sequential(
            *(nn.Linear(4, 9, bias=False), nn.BatchNorm1d(9), nn.ReLU()),
            *(nn.Linear(9, 7), nn.Dropout(), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 2)),
        )

    models, data = parents(make), vectors(64)
    merged = mean_of(models)
    result = fr.repair(merged, like=models, data=data, sequential=sequential, progress=False)
    report = report_of(result)
    assert [(p.name, p.kind) for p in report] == [("1", "batch_norm"), ("5", "batch_norm")]
    assert report.left["0"] == report.left["3"] == "BatchNorm follows"
    measured = statistics(result, data, inputs=["1", "5"])
    for name in ("1", "5"):
        norm = result.get_submodule(name)
        assert isinstance(norm, nn.BatchNorm1d)
        torch.testing.assert_close(norm.running_mean, measured[name][0].float())
        unbiased = measured[name][1].square() * 64 / 63
        torch.testing.assert_close(norm.running_var, unbiased.float(), rtol=1e-3, atol=1e-6)
    for name, tensor in merged.named_parameters():
        assert torch.equal(tensor, result.get_parameter(name))


def test_of_one_batch_batch_norm_becomes_what_recomputing_makes_of_it() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 2, 3))
    (data,) = [images(9)]
    ours = fr.repair(model, like=[model], data=data, progress=False)
    theirs = fr.recompute_batch_norm(model, data)
    torch.testing.assert_close(ours[1].running_var, theirs[1].running_var)
    torch.testing.assert_close(ours[1].running_mean, theirs[1].running_mean)


def test_units_that_are_constant_are_left_alone() -> None:
    models = parents(mlp)
    merged = mean_of(models)
    with torch.no_grad():
        merged[0].weight[3] = 0.0  # constant in what is merged
        for parent in models:
            parent[2].weight[5] = 0.0  # and in all parents
    before = merged.state_dict()
    result = fr.repair(merged, like=models, data=vectors(40), progress=False)
    report = report_of(result)
    assert report["0"].quiet == 1
    assert report["2"].quiet == 1
    for name, row in (("0", 3), ("2", 5)):
        layer = result.get_submodule(name)
        assert torch.equal(layer.weight[row], before[f"{name}.weight"][row])
        assert torch.equal(layer.bias[row], before[f"{name}.bias"][row])
    assert all(bool(torch.isfinite(p).all()) for p in result.parameters())


def test_a_unit_that_is_alive_in_one_parent_alone_is_corrected() -> None:
    models = parents(mlp)
    with torch.no_grad():
        models[0][0].weight[3] = 0.0
    result = fr.repair(mean_of(models), like=models, data=vectors(40), progress=False)
    assert report_of(result)["0"].quiet == 0
    assert_goals(result, models, vectors(40))


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.twice, self.head = nn.Linear(4, 6), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.cat([self.twice(x), self.twice(-2 * x)], 1).relu())
        return result


def test_the_statistics_of_a_module_that_is_called_twice_are_pooled() -> None:
    models, data = parents(Siamese), vectors(32, 9)
    result = fr.repair(mean_of(models), like=models, data=data, sequential=True, progress=False)
    assert [place.name for place in report_of(result)] == ["twice"]
    assert_goals(result, models, data)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hidden, self.out = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 9)
        self.out.weight = self.embed.weight
        self.last = nn.Linear(9, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.last(self.out(self.hidden(self.embed(tokens)).relu()).relu())
        return result


def test_weights_with_several_uses_are_left_alone() -> None:
    models = parents(Tied)
    data = [{"tokens": torch.randint(9, (8, 5))}]
    merged = mean_of(models)
    result = fr.repair(merged, like=models, data=data, progress=False)
    report = report_of(result)
    assert [place.name for place in report] == ["hidden"]
    assert report.left["out"] == "its weight has other uses as well"
    assert torch.equal(result.embed.weight, merged.embed.weight)
    assert result.out.weight is result.embed.weight


def test_the_shift_of_a_layer_without_bias_goes_into_the_linear_layer_that_reads_it() -> None:
    def make() -> nn.Module:
        layers = (nn.Linear(4, 6, bias=False), nn.Dropout(), nn.Linear(6, 8), nn.ReLU())
        return nn.Sequential(*layers, nn.Linear(8, 7, bias=False), nn.ReLU(), nn.Linear(7, 2))

    models, data = parents(make), vectors(50)
    result = fr.repair(mean_of(models), like=models, data=data, sequential=True, progress=False)
    report = report_of(result)
    assert report["0"].note == "its shift is in 2.weight's bias"
    assert report["4"].note == "no bias to shift; scaled to be near both goals"
    assert [*result.state_dict()] == [*models[0].state_dict()]
    found, known = statistics(result, data), [statistics(p, data) for p in models]
    for name in ("0", "2"):
        std = (known[0][name][1] + known[1][name][1]) / 2
        torch.testing.assert_close(found[name][1], std, rtol=1e-4, atol=1e-6)
    mean = (known[0]["2"][0] + known[1]["2"][0]) / 2
    torch.testing.assert_close(found["2"][0], mean, rtol=1e-4, atol=1e-5)


def test_means_without_a_shift_are_not_scaled_far_beyond_their_goals() -> None:
    """As in Fixup: a merged layer whose deviations collapsed more than its means did."""

    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 40, bias=False), nn.ReLU(), nn.Linear(40, 2))

    models, data = parents(make), [8 * torch.rand(64, 8) + torch.eye(8)[0] for _ in range(3)]
    offs = {
        method: report_of(
            fr.repair(mean_of(models), like=models, data=data, method=method, progress=False)
        )["0"]
        for method in ("repair", "rescale")
    }
    assert offs["rescale"].std_after == pytest.approx(1, abs=1e-4)
    assert offs["repair"].mean_after < offs["rescale"].mean_after


def test_a_layer_whose_weight_is_masked_takes_no_shift() -> None:
    (model,) = parents(lambda: nn.Sequential(nn.Linear(4, 6, bias=False), mlp(1, 6)), 1)
    del model[1][0]
    model[1].insert(0, nn.Linear(6, 6))
    pruned = copy.deepcopy(model)
    prune.l1_unstructured(pruned[1][0], "weight", 0.3)
    prune.l1_unstructured(pruned[0], "weight", 0.3)
    for front_ends in (("export",), ("symbolic_trace",)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(watching, "GRAPHS", front_ends)
            result = fr.repair(pruned, like=[model], data=vectors(50), progress=False)
        assert report_of(result)["0"].note == "no bias to shift; scaled to be near both goals"
        assert report_of(result)["1.0"].mean_after < 1e-5


@pytest.mark.parametrize("name", ["mlp", "residual", "attention"])
def test_a_model_that_is_its_own_parent_stays_what_it_is(name: str) -> None:
    make, data = NETWORKS[name]
    (model,) = parents(make, 1)
    result = fr.repair(model, like=[model], data=[torch.cat(data)], progress=False)
    for ours, theirs in zip(result.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_in_place_the_model_itself_is_corrected() -> None:
    models = parents(mlp)
    merged = mean_of(models).train()
    merged[1].eval()
    tensors = dict(merged.named_parameters())
    expected = fr.repair(merged, like=models, data=vectors(30), progress=False)
    result = fr.repair(merged, like=models, data=vectors(30), inplace=True, progress=False)
    assert result is merged
    assert expected.training and not expected[1].training
    assert merged.training and not merged[1].training
    for name, parameter in merged.named_parameters():
        assert parameter is tensors[name]
        assert parameter.requires_grad and parameter.grad is None
        assert torch.equal(parameter, expected.get_parameter(name))


def test_nothing_is_changed_but_the_copy() -> None:
    models = parents(mlp)
    merged = mean_of(models)
    kept = [copy.deepcopy(m.state_dict()) for m in (*models, merged)]
    torch.manual_seed(4)
    random.seed(4)
    before = torch.get_rng_state(), random.getstate()
    result = fr.repair(merged, like=models, data=vectors(20), progress=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert result is not merged
    for model, state in zip((*models, merged), kept, strict=True):
        assert "repair_report" not in vars(model)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, state[name])


class Failing:
    """Data that fail in a pass, the first being number 0."""

    def __init__(self, at: int) -> None:
        self.at, self.passes = at, -1

    def __iter__(self) -> Iterator[Tensor]:
        self.passes += 1
        yield vectors(20)[0]
        if self.passes == self.at:
            raise RuntimeError("the disk is gone")


@pytest.mark.parametrize("at", [2, 5, 7, 9])
def test_in_place_a_model_is_left_as_it_was_when_the_data_fail(at: int) -> None:
    models = parents(mlp)
    merged = mean_of(models)
    before = copy.deepcopy(merged.state_dict())
    options = {"sequential": True, "inplace": True, "progress": False}
    with pytest.raises(RuntimeError, match="the disk is gone"):
        fr.repair(merged, like=models, data=Failing(at), **options)  # type: ignore[arg-type]
    for name, tensor in merged.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert "repair_report" not in vars(merged)


def test_a_loader_that_shuffles_gives_every_pass_the_same_batches() -> None:
    models = parents(mlp)
    dataset = torch.utils.data.TensorDataset(torch.cat(vectors(64)))
    loader = torch.utils.data.DataLoader(dataset, batch_size=16, shuffle=True)
    result = fr.repair(
        mean_of(models), like=models, data=loader, batches=2, sequential=True, progress=False
    )
    assert report_of(result).batches == 2
    for place in report_of(result):
        assert place.std_after == pytest.approx(1.0, abs=1e-3)


def test_batches_may_be_anything_that_inputs_understands() -> None:
    models, (x,) = parents(mlp), vectors(30)
    expected = fr.repair(mean_of(models), like=models, data=[x], progress=False)
    for data, inputs in (
        ([(x, "labels")], None),
        ([{"input": x}], None),
        ([{"image": x, "label": 3}], lambda batch: (batch["image"],)),
    ):
        result = fr.repair(mean_of(models), like=models, data=data, inputs=inputs, progress=False)
        for a, b in zip(result.parameters(), expected.parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_pruned_model_gets_the_statistics_of_the_dense_one() -> None:
    (dense,) = parents(mlp, 1)
    pruned = copy.deepcopy(dense)
    for layer in (pruned[0], pruned[2], pruned[4]):
        prune.l1_unstructured(layer, "weight", 0.25)
    data = vectors(60)
    result = fr.repair(pruned, like=[dense], data=data, sequential=True, progress=False)
    assert [*result.state_dict()] == [*pruned.state_dict()]
    assert "0.weight_mask" in result.state_dict()
    assert_goals(result, [dense], data, (1.0,))
    for k in (0, 2, 4):
        prune.remove(result[k], "weight")
        assert bool((result[k].weight == 0).any())
    assert_goals(result, [dense], data, (1.0,))


def test_a_compacted_model_gets_the_statistics_of_another() -> None:
    def cut(model: Any) -> nn.Module:
        with torch.no_grad():
            for k in (0, 2):
                model[k].weight[:4] = 0.0
                model[k].bias[:4] = 0.0
        return fr.compact(model, (vectors(5)[0],))

    small = [cut(model) for model in parents(mlp)]
    data = vectors(60)
    result = fr.repair(mean_of(small), like=small, data=data, sequential=True, progress=False)
    assert isinstance(result, fr.RebasedModule)
    assert result.get_submodule("0").out_features == 8
    assert_goals(result, small, data)


def test_a_model_with_rounded_weights_gets_the_statistics_of_the_one_it_was() -> None:
    (model,) = parents(mlp, 1)
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in rounded.parameters():
            step = parameter.abs().max() / 3
            parameter.copy_((parameter / step).round() * step)
    data = vectors(60)
    result = fr.repair(rounded, like=[model], data=data, sequential=True, progress=False)
    assert report_of(result)["4"].mean_before > 0.01
    assert_goals(result, [model], data, (1.0,))


def test_an_aligned_model_merged_with_its_reference_is_repaired() -> None:
    a, b = parents(mlp)
    aligned = fr.rebasin(b, to=a, args=(vectors(3)[0],), progress=False)
    merged = copy.deepcopy(aligned)
    state = a.state_dict()
    merged.load_state_dict({k: (v + state[k]) / 2 for k, v in aligned.state_dict().items()})
    data = vectors(60)
    result = fr.repair(merged, like=[a, aligned], data=data, sequential=True, progress=False)
    assert isinstance(result, fr.RebasedModule)
    assert isinstance(result.report, fr.Report)
    assert_goals(result, [a, aligned], data)


class Branching(nn.Module):
    """No front end gives a graph of it that holds."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.one(x))
        if float(h.sum()) > 0:
            h = 2 * h
        result: Tensor = self.two(h.relu())
        return result


@pytest.mark.parametrize("inplace", [False, True])
def test_without_a_graph_only_batch_norm_is_measured_and_it_is_said_why(inplace: bool) -> None:
    models = parents(Branching)
    merged = mean_of(models)
    expected = fr.recompute_batch_norm(merged, vectors(20, 20))
    result = fr.repair(merged, like=models, data=vectors(20, 20), inplace=inplace, progress=False)
    report = report_of(result)
    assert len(report) == 0
    assert "there is no graph of the model" in report.notes[0]
    assert "1 BatchNorm layers were measured afresh" in str(report)
    for a, b in zip(result.state_dict().values(), expected.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert (result is merged) == inplace


@pytest.mark.slow
@pytest.mark.parametrize("method", ["repair", "rescale"])
def test_it_cures_the_collapse_of_variance_in_a_deep_network(method: Any) -> None:
    """Two networks of 15 layers that were trained on the same task from other weights."""
    torch.manual_seed(0)
    x = torch.randn(512, 4)
    y = (x[:, 0] * x[:, 1] > 0).long()

    def trained(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        net = mlp(15, 32)
        for layer in net:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        return net.eval().requires_grad_(False)

    models = [trained(1), trained(2)]
    symmetry = fr.analyze(models[1], (x[:2],))
    found = fr.match(symmetry, models[1].state_dict(), to=models[0].state_dict(), progress=False)
    models[1] = found.apply_to(models[1])
    merged = mean_of(models)
    last = "28"

    def share(model: nn.Module) -> float:
        stds = [statistics(m, [x])[last][1] for m in (model, *models)]
        return float(stds[0].square().sum() / ((stds[1] + stds[2]) / 2).square().sum())

    assert share(merged) < 0.2
    data = list(x.split(128))
    result = fr.repair(merged, like=models, data=data, method=method, progress=False)
    assert share(result) == pytest.approx(1.0, abs=0.15)
    exact = fr.repair(
        merged, like=models, data=data, method=method, sequential=True, progress=False
    )
    assert share(exact) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vgg11", "shufflenet_v2_x0_5", "vit_b_16"])
def test_models_of_torchvision(name: str) -> None:
    torch.manual_seed(0)
    side = 224 if name == "vit_b_16" else 48
    options = {"image_size": side} if name == "vit_b_16" else {}
    make = getattr(torchvision.models, name)
    models = parents(lambda: make(num_classes=4, **options))
    merged = mean_of(models)
    data = images(2 if name == "vit_b_16" else 6, side=side)
    result = fr.repair(merged, like=models, data=data, progress=False)
    report = report_of(result)
    assert [*result.state_dict()] == [*merged.state_dict()]
    for place in report:
        if place.name not in in_sums(report):
            assert place.std_after == pytest.approx(1.0, abs=2e-2), place
    norms = [m for m in result.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert sum(place.kind == "batch_norm" for place in report) == len(norms)
    layers = [m for m in result.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    corrected = [p for p in report if p.kind not in ("batch_norm", "sum")]
    left = [n for n in report.left if "(sum)" not in n]
    packed = sum(isinstance(m, nn.MultiheadAttention) for m in result.modules())
    assert len(corrected) + len(left) == len(layers) + packed


def test_parents_of_other_widths_are_refused() -> None:
    models = parents(mlp)
    with pytest.raises(ArchitectureMismatchError, match=r"like\[1\]: expected the layer '0' of 12"):
        fr.repair(models[0], like=[models[0], mlp(width=9)], data=vectors(20), progress=False)


def test_data_that_do_not_fit_are_refused() -> None:
    (model,) = parents(mlp, 1)
    with pytest.raises(InvalidInputError):
        fr.repair(model, like=[model], data=images(3), progress=False)
    with pytest.raises(InvalidArgumentError, match="data: expected batches of inputs, found none"):
        fr.repair(model, like=[model], data=[], progress=False)
    with pytest.raises(InvalidArgumentError, match="an iterator or generator only once"):
        fr.repair(model, like=[model], data=iter(vectors(3)), progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "mean"}, "method: expected 'repair' or 'rescale' or 'reshift', found 'mean'"),
        ({"weights": [1.0]}, "weights: expected a list of 2 finite numbers from 0 upwards"),
        ({"weights": [1.0, -1.0]}, r"weights\[1\]: expected a finite number from 0 upwards"),
        ({"weights": [0, 0]}, "weights: expected at least one above 0"),
        ({"like": []}, "like: expected a list of models, found a list of 0"),
        ({"sequential": 1}, "sequential: expected True or False, found 1"),
        ({"batches": 0}, "batches: expected a whole number, at least 1, found 0"),
        ({"inputs": lambda batch: batch}, "inputs: expected a function that returns a tuple"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    models = parents(mlp)
    right: dict[str, Any] = {"like": models, "data": vectors(20), "progress": False}
    with pytest.raises(InvalidArgumentError, match=message):
        fr.repair(models[0], **{**right, **options})
