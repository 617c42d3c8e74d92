"""Everything on an accelerator, where there is one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fxrebasin as fr
from fxrebasin.errors import InvalidParameterError

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none"
)


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5),
        )
        .eval()
        .cuda()
    )  # fmt: skip


def test_a_model_on_the_accelerator() -> None:
    a, b = net(1), net(2)
    x = torch.randn(4, 3, 4, 4, device="cuda")
    state = torch.cuda.get_rng_state()
    symmetry = fr.analyze(b, args=(x,))
    assert symmetry == fr.analyze(net(2).cpu(), args=(x.cpu(),))
    aligned = fr.rebasin(b, to=a, args=(x,), progress=False)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert {t.device.type for t in aligned.state_dict().values()} == {"cuda"}
    with torch.no_grad():
        torch.testing.assert_close(aligned(x), b(x), rtol=1e-3, atol=1e-4)
    assert aligned.report.objective_after > aligned.report.objective_before


def test_solving_elsewhere_than_the_weights() -> None:
    a, b = net(1), net(2)
    symmetry = fr.analyze(b, args=(torch.randn(1, 3, 4, 4, device="cuda"),))
    planted = symmetry.sample(torch.Generator().manual_seed(0))
    moved = planted.apply(a.state_dict())
    assert {t.device.type for t in moved.values()} == {"cuda"}
    for device in ("cpu", "cuda", None):
        found = fr.match(symmetry, moved, to=a.state_dict(), device=device, progress=False)
        assert found.compose(planted).is_identity
    on_cpu = {k: t.cpu() for k, t in moved.items()}
    found = fr.match(symmetry, on_cpu, to=a.state_dict(), progress=False)
    assert found.compose(planted).is_identity


def test_the_reference_may_be_on_another_device() -> None:
    a, b = net(1), net(2)
    x = torch.randn(4, 3, 4, 4, device="cuda")
    aligned = fr.rebasin(b, to=a.cpu(), args=(x,), progress=False)
    assert {t.device.type for t in aligned.state_dict().values()} == {"cuda"}


def test_a_model_on_several_devices_is_refused() -> None:
    b = net(2)
    assert isinstance(b, nn.Sequential)
    b[0].cpu()
    with pytest.raises(InvalidParameterError, match="several devices"):
        fr.analyze(b, args=(torch.randn(1, 3, 4, 4),))
