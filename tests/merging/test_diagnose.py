"""Diagnoses of alignments: what they say of pairs of which it is known."""

from __future__ import annotations

import copy
import csv
import io
import json
import math
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import ArchitectureMismatchError, FileFormatError, InvalidArgumentError

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))


def net(seed: int, width: int = 24) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 3))


def planted(seed: int = 0) -> tuple[nn.Module, nn.Module, fr.Permutation]:
    """A model, the same with its units in another order, and what puts them back."""
    a = net(seed)
    symmetry = fr.analyze(a, args=(X,))
    away = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed))
    return a, away.apply_to(a), away.inverse()


def diagnose(*args: Any, **options: Any) -> fr.Diagnosis:
    return fr.diagnose(*args, progress=False, **options)


def test_of_a_planted_permutation_nothing_is_left() -> None:
    a, b, back = planted()
    found = diagnose(a, b, back, data=[X])
    assert found.distance_before > 1
    assert found.distance_after == 0
    assert [p.cosine_after for p in found.parameters] == pytest.approx([1] * 6)
    ratios = [p.variance_after for p in found.parameters]
    assert ratios == pytest.approx([1] * 6, rel=1e-4)
    before = [p.variance_before for p in found.parameters]
    assert min(r for r in before if r is not None) < 0.9
    assert found.moved > 0.8
    assert found.objective_after > found.objective_before
    assert "the weights have come 100.0% closer" in found.advice[0]


def test_figures_are_those_of_the_weights() -> None:
    a, b = net(0), net(1)
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    found = diagnose(a, b, aligned)
    after = aligned.state_dict()
    for parameter, (name, one) in zip(found.parameters, a.named_parameters(), strict=True):
        assert parameter.name == name
        assert parameter.entries == one.numel()
        for other, distance, cosine in (
            (b.state_dict()[name], parameter.distance_before, parameter.cosine_before),
            (after[name], parameter.distance_after, parameter.cosine_after),
        ):
            assert distance == pytest.approx(float((one.detach() - other).norm()), rel=1e-5)
            angle = torch.cosine_similarity(one.detach().ravel(), other.ravel(), dim=0)
            assert cosine == pytest.approx(float(angle), abs=1e-5)
    assert found.objective_before == pytest.approx(aligned.report.objective_before, rel=1e-5)
    assert found.objective_after == pytest.approx(aligned.report.objective_after, rel=1e-5)
    gains = {block.name: block.gain for block in found.blocks}
    assert gains == pytest.approx(dict(aligned.report.alignment.gains), rel=1e-4)
    assert found.moved == pytest.approx(aligned.report.permutation.moved_units / 48)
    assert all(block.margin is not None and block.margin > -1e-5 for block in found.blocks)


def test_all_that_says_how_units_moved_is_taken() -> None:
    a, b = net(0), net(1)
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    ways = (aligned, aligned.report.alignment, aligned.report.permutation)
    assert len({str(diagnose(a, b, way)) for way in ways}) == 1


def test_fine_tunes_of_one_ancestor_are_told() -> None:
    a = net(0)
    b = copy.deepcopy(a)
    with torch.no_grad():
        for parameter in b.parameters():
            parameter.add_(1e-3 * torch.randn_like(parameter))
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    found = diagnose(a, b, aligned, data=[X])
    assert found.moved == 0
    (only,) = found.advice
    assert only.startswith("next to no unit moved: both models have their units in the same order")


def test_models_in_the_wrong_places_are_told() -> None:
    a, b = net(0, 64), net(1, 64)
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    found = diagnose(b, a, aligned)
    if found.objective_after < found.objective_before:
        assert found.advice[0].startswith("the objective fell")
    else:
        assert found.distance_after > 0.95 * found.distance_before


def test_a_collapse_of_variance_is_told() -> None:
    a, b = net(0, 200), net(1, 200)
    still = fr.Permutation.identity(fr.analyze(b, args=(X,)))
    found = diagnose(a, b, still, data=[X])
    last = found.parameters[-1]
    assert last.variance_after is not None
    assert last.variance_after < 0.5
    assert last.variance_before == last.variance_after
    assert any("their variance collapses" in sentence for sentence in found.advice)


def test_the_variance_half_way_is_a_share_of_the_mean_of_the_ends() -> None:
    a = net(0)
    b = copy.deepcopy(a)
    with torch.no_grad():
        for parameter in b[4].parameters():
            parameter.mul_(3)
    found = diagnose(a, b, fr.Permutation.identity(fr.analyze(a, args=(X,))), data=[X])
    ratios = [p.variance_after for p in found.parameters]
    assert ratios == pytest.approx([1, 1, 1, 1, 0.8, 0.8], rel=1e-5)  # 2 ** 2 / ((1 + 9) / 2)


def test_a_layer_that_does_not_vary_has_no_ratio() -> None:
    a = net(0)
    with torch.no_grad():
        for parameter in a.parameters():
            parameter.zero_()
    found = diagnose(
        a, copy.deepcopy(a), fr.Permutation.identity(fr.analyze(net(0), (X,))), data=[X]
    )
    assert all(p.variance_after is None and p.cosine_after is None for p in found.parameters)
    assert "variance" not in str(found)


def test_nested_blocks_have_no_gain_of_their_own() -> None:
    class Attention(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            torch.manual_seed(seed)
            self.qkv, self.out = nn.Linear(6, 24), nn.Linear(8, 6)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x)[..., :24].reshape(-1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
            result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
            return result

    a, b = Attention(0), Attention(1)
    x = torch.randn(3, 5, 6)
    aligned = fr.rebasin(b, to=a, args=(x,), progress=False)
    found = diagnose(a, b, aligned, data=[x])
    symmetry = aligned.report.symmetry
    for block in found.blocks:
        assert (block.gain is None) == (symmetry.blocks[block.name].parent is not None)
        if symmetry.children(block.name):
            assert block.margin is None
        else:
            assert block.margin is not None
            assert block.margin > -1e-5


def test_nothing_is_changed() -> None:
    a, b, back = planted()
    a.train()
    kept = [{n: t.clone() for n, t in m.state_dict().items()} for m in (a, b)]
    state = torch.get_rng_state()
    with torch.inference_mode():
        diagnose(a, b, back, data=[X])
    assert torch.equal(state, torch.get_rng_state())
    assert a.training
    assert not a[0]._forward_hooks  # type: ignore[index]
    for model, before in zip((a, b), kept, strict=True):
        assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_a_diagnosis_is_the_same_after_json_and_csv(tmp_path: FilePath) -> None:
    a, b = net(0), net(1)
    found = diagnose(a, b, fr.rebasin(b, to=a, args=(X,), progress=False), data=[X])
    assert fr.Diagnosis.from_json(found.to_json(tmp_path / "a.json")) == found
    for table, rows in (("parameters", found.parameters), ("blocks", found.blocks)):
        text = found.to_csv(tmp_path / f"{table}.csv", table=table)
        assert (tmp_path / f"{table}.csv").read_text() == text
        read = [*csv.DictReader(io.StringIO(text))]
        assert [row["name"] for row in read] == [row.name for row in rows]
    assert [float(row["gain"]) for row in read] == [block.gain for block in found.blocks]
    with pytest.raises(InvalidArgumentError, match="table: expected 'parameters' or 'blocks'"):
        found.to_csv(table="layers")


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"parameters": 3, "blocks": []})])
def test_what_is_no_diagnosis_is_not_read(text: str) -> None:
    with pytest.raises(FileFormatError, match="text: expected"):
        fr.Diagnosis.from_json(text)


def test_a_picture_is_written_whole_with_a_panel_for_all_that_is_known(
    tmp_path: FilePath,
) -> None:
    a, b, back = planted()
    target = tmp_path / "a.png"
    three = diagnose(a, b, back, data=[X]).plot(target, title="planted")
    two = diagnose(a, b, back).plot()
    assert (len(three.axes), len(two.axes)) == (3, 2)
    assert [label.get_text() for label in two.axes[0].get_yticklabels()] == [
        *dict(a.named_parameters())
    ]
    assert target.read_bytes().startswith(b"\x89PNG")
    assert [*tmp_path.iterdir()] == [target]


def test_html_escapes_names() -> None:
    change = fr.ParameterChange("a<b", 1, 1.0, 0.5, None, None)
    page = fr.Diagnosis((change,), (), 0.0, 1.0)._repr_html_()
    assert "a&lt;b" in page
    assert "a<b" not in page
    assert "no block of units that can move" in page


@pytest.mark.parametrize(
    ("aligned", "message"),
    [
        (None, "aligned: expected a Permutation, a Transform, an Alignment, or the module that fr"),
        (net(1), "aligned: expected .* found None; give what fr.match"),
    ],
)
def test_what_does_not_say_how_units_moved_is_refused(aligned: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        diagnose(net(0), net(1), aligned)


def test_a_model_that_was_aligned_in_place_is_refused() -> None:
    a, b = net(0), net(1)
    aligned = fr.rebasin(b, to=a, args=(X,), inplace=True, progress=False)
    with pytest.raises(InvalidArgumentError, match=r"b: expected the model as it was before it"):
        diagnose(a, b, aligned)
    before = net(1)
    assert (
        diagnose(a, before, aligned).distance_after < diagnose(a, before, aligned).distance_before
    )


def test_models_that_do_not_fit_are_refused() -> None:
    _, _, back = planted()
    with pytest.raises(ArchitectureMismatchError):
        diagnose(net(0), net(1, 25), back)
    with pytest.raises(ArchitectureMismatchError):
        diagnose(net(0, 25), net(1, 25), back)


def test_an_integer_that_is_no_weight_does_not_stand_in_the_way() -> None:
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)]
    a, b = (nn.Sequential(*map(copy.deepcopy, layers)) for _ in "ab")
    nn.init.constant_(b[1].num_batches_tracked, 5)  # type: ignore[arg-type]
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    found = diagnose(a, b, aligned, data=[X])
    assert not math.isnan(found.distance_after)
    assert [p.name for p in found.parameters] == [*dict(a.named_parameters())]
