"""Learning lowers the loss between two models, keeps what B computes, and changes nothing else."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from kinds_by_hand import Decoder
from torch import Tensor, nn
from torch.nn import functional as F

import fxrebasin as fr
from fxrebasin.errors import ArchitectureMismatchError, InvalidArgumentError
from fxrebasin.learning.learner import Learner
from fxrebasin.models.randomness import OwnRandomness
from fxrebasin.models.validation import stored_tensors

Batch = tuple[Tensor, Tensor]


def mse(model: nn.Module, batch: Batch) -> Tensor:
    return F.mse_loss(model(batch[0]).float(), batch[1].float())


def learner(symmetry: fr.Symmetry, model: nn.Module, size: float) -> Learner:
    """One that has moved B, which is A, by a random element of some size."""
    made = Learner(symmetry, model, (stored_tensors(model),) * 2, mse, OwnRandomness(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for rotation in made._rotations.values():
            rotation.free.normal_(std=size, generator=generator)
    return made


class Case:
    """B is A moved a little; what is learned is to compute half way what A does."""

    def __init__(self, norm: Any = nn.LayerNorm, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        self.a = Decoder(norm, gated=False).eval()
        generator = torch.Generator().manual_seed(3)
        inputs = [torch.randint(0, 11, (8, 6), generator=generator) for _ in range(4)]
        self.symmetry = fr.analyze(self.a, (inputs[0],))
        transform = learner(self.symmetry, self.a, 0.1).transform()
        self.b = transform.apply_to(self.a).to(dtype)
        self.a.to(dtype)
        self.batches = [(x, self.a(x).detach()) for x in inputs]

    def refine(self, **options: Any) -> Any:
        given = {"to": self.a, "symmetry": self.symmetry, "steps": 5, "progress": False, **options}
        return fr.refine(self.b, self.batches, given.pop("loss", mse), **given)

    def middle(self, b: nn.Module) -> float:
        """The loss half way to B."""

        def evaluate(model: nn.Module) -> float:
            return sum(mse(model, batch).item() for batch in self.batches)

        path = fr.interpolate(self.a, b, evaluate, steps=3, progress=False)
        return path.midpoint["loss"]


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_the_loss_half_way_falls_and_the_function_stays(norm: Any) -> None:
    case = Case(norm)
    refined = case.refine(steps=60, learning_rate=1e-2)
    assert type(refined) is Decoder
    assert case.middle(refined) < 0.2 * case.middle(case.b)
    for x, _ in case.batches:
        torch.testing.assert_close(refined(x), case.b(x), atol=1e-4, rtol=1e-4)
    report = refined.report
    assert isinstance(refined, fr.Refined) and isinstance(report, fr.RefineReport)
    assert len(report.losses) == 60 and report.losses[-1] < report.losses[0]
    assert report.symmetry is case.symmetry
    assert "60 steps" in str(report) and "verified" in str(report)


def test_what_is_learned_with_is_how_transforms_act() -> None:
    case = Case()
    made = learner(case.symmetry, case.a, 0.3)
    expected = made.transform().apply(case.a.state_dict())
    found = made._moved()
    assert len(found) > 10
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.detach(), expected[name], atol=1e-5, rtol=1e-4)


def test_the_report_says_what_took_b_there() -> None:
    case = Case()
    refined = case.refine()
    state = refined.report.transform.apply(case.b.state_dict())
    for name, tensor in refined.state_dict().items():
        torch.testing.assert_close(tensor, state[name])
    assert refined.report.dimension == sum(
        block.count * case.symmetry.kinds.of(block.name).dimension(block.size)
        - block.size * len(case.symmetry.kinds.of(block.name).absorbed)
        for block in case.symmetry
    )


def test_a_seed_decides_all_and_nothing_else_is_changed() -> None:
    case = Case()
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (case.a, case.b)]
    torch.manual_seed(5)
    random.seed(5)
    expected = torch.rand(1), random.random()
    torch.manual_seed(5)
    random.seed(5)
    one = case.refine(seed=1)
    assert (torch.rand(1), random.random()) == expected
    same, other = case.refine(seed=1), case.refine(seed=2)
    assert one.report.losses == same.report.losses != other.report.losses
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
    for model, kept in zip((case.a, case.b), before, strict=True):
        assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_kept(dtype: torch.dtype) -> None:
    case = Case(dtype=dtype)
    refined = case.refine(steps=3)
    assert {p.dtype for p in refined.parameters()} == {dtype}
    assert refined.report.verification.error < (1e-12 if dtype == torch.float64 else 3e-2)


def test_learning_goes_on_from_what_was_learned() -> None:
    case = Case()
    first = case.refine()
    second = fr.refine(first, case.batches, mse, to=case.a, steps=3, progress=False)
    assert second.report.symmetry is case.symmetry
    assert second.report.losses[0] < 1.5 * first.report.losses[-1]


def test_what_rebasin_has_rotated_is_refined_in_its_gauge() -> None:
    case = Case()
    x = case.batches[0][0]
    rotated = fr.rebasin(case.b, to=case.a, args=(x,), group="linear", progress=False)
    refined = fr.refine(rotated, case.batches, mse, steps=3, progress=False)
    assert isinstance(refined, torch.fx.GraphModule)
    assert refined.report.symmetry is rotated.report.symmetry
    torch.testing.assert_close(refined(x), case.b(x), atol=1e-4, rtol=1e-4)


class Refusing(Decoder):
    """One that is exported, for inputs of one shape."""

    def forward(self, ids: Tensor) -> Tensor:
        if ids.sum() < 0:
            raise ValueError("no words")
        return super().forward(ids)


def test_graphs_that_take_one_shape_only_are_refined_on_any() -> None:
    case = Case()
    case.a.__class__ = case.b.__class__ = Refusing
    x = case.batches[0][0][:4]
    rotated = fr.rebasin(case.b, to=case.a, args=(x,), group="linear", progress=False)
    assert rotated.report.symmetry.front_end != "symbolic_trace"
    refined = fr.refine(rotated, case.batches, mse, steps=3, progress=False)
    torch.testing.assert_close(refined(x), case.b(x), atol=1e-4, rtol=1e-4)


def test_models_made_in_inference_mode_are_learned_from() -> None:
    case = Case()
    with torch.inference_mode():
        made = fr.canonicalise(case.symmetry, case.b)
    refined = fr.refine(
        made, case.batches, mse, to=case.a, symmetry=case.symmetry, steps=2, progress=False
    )
    x = case.batches[0][0]
    torch.testing.assert_close(refined(x), case.b(x), atol=1e-4, rtol=1e-4)


def test_a_callback_is_told_every_step_and_may_end_it() -> None:
    steps: list[fr.LearningStep] = []

    def enough(step: fr.LearningStep) -> None:
        steps.append(step)
        if step.number == 3:
            raise StopIteration

    report = Case().refine(callback=enough).report
    assert [step.number for step in steps] == [1, 2, 3]
    assert tuple(step.loss for step in steps) == report.losses
    assert steps[0].seconds <= steps[-1].seconds <= report.seconds


def test_what_cannot_be_mixed_is_not_learned() -> None:
    nets = [nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2)) for _ in range(2)]
    x = torch.zeros(2, 3)
    symmetry = fr.analyze(nets[0], (x,))
    with pytest.raises(InvalidArgumentError, match=r"nothing can be learned.*'0.weight.*S\(5\)"):
        fr.refine(nets[0], [(x, x)], mse, to=nets[1], symmetry=symmetry)


@pytest.mark.parametrize("name", ["a", "b"])
def test_norms_have_to_be_absorbed(name: str) -> None:
    case = Case()
    with torch.no_grad():
        getattr(case, name).norms[1].weight[2] = 2
    with pytest.raises(InvalidArgumentError, match=r"'norms\.1\.weight' is not one"):
        case.refine()


def test_losses_have_to_be_functions_of_the_model() -> None:
    case = Case()
    with pytest.raises(InvalidArgumentError, match="calls the model"):
        case.refine(loss=lambda model, batch: model.head.weight.sum(), steps=1)
    with pytest.raises(InvalidArgumentError, match="wants a gradient"):
        case.refine(loss=lambda model, batch: torch.zeros(()))
    with pytest.raises(InvalidArgumentError, match=r"found nan at step 1, 0\.\d+ of the way"):
        case.refine(loss=lambda model, batch: mse(model, batch) * torch.nan)


def test_errors_say_what_is_missing() -> None:
    case = Case()
    with pytest.raises(InvalidArgumentError, match="to: expected model A"):
        fr.refine(case.b, case.batches, mse, symmetry=case.symmetry)
    with pytest.raises(InvalidArgumentError, match=r"symmetry: .*fr\.analyze"):
        fr.refine(case.b, case.batches, mse, to=case.a)
    with pytest.raises(ArchitectureMismatchError):
        case.refine(to=nn.Linear(2, 3))
    for between in ((0.6, 0.4), (0.5,), (-1.0, 0.5)):
        with pytest.raises(InvalidArgumentError, match="between"):
            case.refine(between=between)
    with pytest.raises(InvalidArgumentError, match="found none"):
        fr.refine(case.b, [], mse, to=case.a, symmetry=case.symmetry, progress=False)
