"""Streams that nobody designed: what is centred and absorbed is so wherever the function allows it,
and nowhere else."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.models.precision import largest_error, to_double
from fxrebasin.models.running import run
from fxrebasin.verification.random_weights import disturb

WIDTH = 6
STEPS = (
    *["block"] * 4,
    "bias",
    "gain",
    "norm",
    "rms",
    "scalar",
    "mean",
    "read",
    "shift",
    "square",
    "tokens",
    "twice",
)


class Stream(nn.Module):
    """A stream that some steps write to, and that others read, with or without a norm."""

    def __init__(self, steps: list[str], *, reads_norm: bool) -> None:
        super().__init__()
        self.steps, self.reads_norm = steps, reads_norm
        self.enter, self.leave = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 3)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(len(steps) + 1))
        self.rms = nn.ModuleList(nn.RMSNorm(WIDTH) for _ in steps)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in steps)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, 3) for _ in steps)
        self.vectors = nn.ParameterList(torch.randn(WIDTH) for _ in steps)

    def forward(self, x: Tensor) -> Tensor:
        h, y = self.enter(x), torch.zeros(3, dtype=x.dtype)
        for k, step in enumerate(self.steps):
            norm, layer, head, vector = (
                self.norms[k],
                self.layers[k],
                self.heads[k],
                self.vectors[k],
            )
            if step == "block":
                h = h + layer(norm(h))
            elif step == "bias":
                h = h + vector
            elif step == "gain":
                h = h + vector * layer(norm(h))
            elif step == "norm":
                h = norm(h)
            elif step == "rms":
                y = y + head(self.rms[k](h))
            elif step == "scalar":
                h = -2.0 * h / 3
            elif step == "mean":
                y = y + h.mean(-1, keepdim=True)
            elif step == "read":
                y = y + head(h)
            elif step == "shift":
                h = h - h.mean(-1, keepdim=True)
            elif step == "square":
                y = y + norm(h).square().sum(-1, keepdim=True)
            elif step == "tokens":
                h = torch.cat([h[:, :1], h[:, 1:].flip(1)], 1)
            elif step == "twice":
                h = h + layer(norm(h + h))
        return y + self.leave(self.norms[-1](h) if self.reads_norm else h)


@pytest.mark.filterwarnings("ignore::fxrebasin.errors.UntouchedWarning")
@pytest.mark.parametrize("seed", range(16))
def test_what_random_streams_compute_stays(seed: int) -> None:
    choice = random.Random(seed)
    steps = choice.choices(STEPS, k=choice.randint(1, 5))
    torch.manual_seed(seed)
    model, x = Stream(steps, reads_norm=choice.random() < 0.8), torch.randn(2, 3, 4)
    symmetry = fr.analyze(model, (x,), check=False)
    model, x = to_double(model), x.double()
    disturb(model, seed, [p.name for p in symmetry.parameters if p.groups])
    made = fr.canonicalise(symmetry, model)
    assert largest_error(run(model, (x,), {}), run(made, (x,), {})) < 1e-10, steps
    writes = [step for step in steps if step in ("block", "bias", "gain", "twice")]
    only_norms = {"block", "bias", "gain", "scalar", "tokens", "twice"}
    if model.reads_norm and only_norms.issuperset(steps):
        centred = {place[0].partition(".")[0] for place in symmetry.kinds.centred}
        layers = {"layers" if step != "bias" else "vectors" for step in writes}
        assert centred == {"enter"} | layers, steps
