"""BatchNorm statistics, measured afresh."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from fxrebasin.errors import InvalidArgumentError
from fxrebasin.repair.batch_norm import recompute_batch_norm


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def _batches(count: int = 4, size: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 3, generator=generator) * 3 + 1 for _ in range(count)]


def _statistics(model: nn.Module) -> tuple[Tensor, Tensor]:
    layer = next(m for m in model.modules() if isinstance(m, nn.BatchNorm1d))
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


def test_statistics_are_the_plain_average_over_the_batches() -> None:
    model = _model()
    fresh = recompute_batch_norm(model, _batches())
    hidden = [model[0](batch) for batch in _batches()]
    mean, variance = _statistics(fresh)
    torch.testing.assert_close(mean, torch.stack([h.mean(0) for h in hidden]).mean(0))
    torch.testing.assert_close(variance, torch.stack([h.var(0) for h in hidden]).mean(0))


def test_only_the_first_batches_are_read() -> None:
    read = []

    def loader() -> Iterator[Tensor]:
        for number, batch in enumerate(_batches()):
            read.append(number)
            yield batch

    fresh = recompute_batch_norm(_model(), loader(), batches=2)
    expected = recompute_batch_norm(_model(), _batches()[:2])
    assert read == [0, 1]
    assert torch.equal(_statistics(fresh)[0], _statistics(expected)[0])


def test_a_model_that_keeps_what_forward_computed_is_copied() -> None:
    class Keeping(nn.Sequential):
        last: Tensor | None = None

        def forward(self, input: Tensor) -> Tensor:
            self.last = super().forward(input)
            return self.last

    model = Keeping(*_model())
    model(_batches()[0])
    fresh = recompute_batch_norm(model, _batches())
    expected = recompute_batch_norm(_model(), _batches())
    assert torch.equal(_statistics(fresh)[1], _statistics(expected)[1])


def test_inputs_may_come_with_labels() -> None:
    pairs = [(batch, torch.zeros(len(batch))) for batch in _batches()]
    lists = [[batch, "label"] for batch in _batches()]
    expected = _statistics(recompute_batch_norm(_model(), _batches()))
    for loader in (pairs, lists):
        assert torch.equal(_statistics(recompute_batch_norm(_model(), loader))[1], expected[1])


def test_the_model_is_untouched_unless_inplace() -> None:
    model = _model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fresh = recompute_batch_norm(model, _batches())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert recompute_batch_norm(model, _batches(), inplace=True) is model
    assert torch.equal(_statistics(model)[0], _statistics(fresh)[0])


def test_modes_momentum_and_parameters_are_restored() -> None:
    model = _model().train()
    model[3].eval()
    modes = [module.training for module in model.modules()]
    fresh = recompute_batch_norm(model, _batches())
    assert [module.training for module in fresh.modules()] == modes
    assert fresh[1].momentum == model[1].momentum == 0.1
    for ours, theirs in zip(fresh.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.grad is None


def test_modes_and_momentum_are_restored_when_the_loader_fails() -> None:
    model = _model().train()

    def loader() -> Iterator[Tensor]:
        yield _batches()[0]
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        recompute_batch_norm(model, loader(), inplace=True)
    assert all(module.training for module in model.modules())
    assert model[1].momentum == 0.1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_in_place_a_model_is_left_as_it_was_when_the_loader_fails(
    error: type[BaseException],
) -> None:
    model = _model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def loader() -> Iterator[Tensor]:
        yield _batches()[0]
        yield _batches()[1]
        raise error

    with pytest.raises(error):
        recompute_batch_norm(model, loader(), inplace=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_everything_but_batch_norm_stays_in_evaluation() -> None:
    class Watcher(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert not self.training
            return x

    model = nn.Sequential(nn.Dropout(0.9), Watcher(), nn.BatchNorm1d(3)).train()
    fresh = recompute_batch_norm(model, _batches())
    # A live dropout would scale most of the entries to zero.
    torch.testing.assert_close(_statistics(fresh)[0], torch.stack(_batches()).mean((0, 1)))


def test_without_running_statistics_nothing_is_run() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False))
    fresh = recompute_batch_norm(model, ["not a tensor"])
    assert fresh is not model


@pytest.mark.parametrize(
    ("loader", "batches", "message"),
    [
        ([], None, "loader yielded no batch"),
        ([{"x": 1}], None, "got dict$"),
        ([("text", 1)], None, "got tuple beginning with str$"),
        ([torch.ones(2, 3)], 0, "batches must be at least 1, got 0"),
        ([torch.ones(2, 3)], 1.5, "batches must be None or a whole number, got 1.5"),
        ([torch.ones(2, 3)], True, "batches must be None or a whole number, got True"),
    ],
)
def test_wrong_arguments_are_named_and_change_nothing(
    loader: list[object], batches: int | None, message: str
) -> None:
    model = _model()
    model[1].running_mean = torch.full((4,), 7.0)
    with pytest.raises(InvalidArgumentError, match=message):
        recompute_batch_norm(model, loader, batches=batches, inplace=True)
    assert _statistics(model)[0].tolist() == [7.0] * 4
