"""Are hidden permutations found again?

B is a random valid permutation of A, as it is or with gaussian noise of 1 % of each tensor's
standard deviation. Weight matching has to undo it: recovered is the share of movable units that
come back to their places, distance the largest difference of any parameter or buffer from A once
the permutation that was found is applied to the noiseless B.

    python -m benchmarks.planted --table benchmarks/planted/planted.md
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

import fxrebasin as fr
from benchmarks.measuring.models import build_classifier
from benchmarks.measuring.reporting import (
    commit,
    markdown_table,
    parser_of,
    provenance,
    write_atomically,
)

MODELS = (
    "mlp",
    "resnet18",
    "resnet50",
    "vgg11_bn",
    "densenet121",
    "shufflenet_v2_x1_0",
    "resnext50_32x4d",
    "mobilenet_v3_small",
    "vit_b_16",
)
HEADER = ("model", "noise", "blocks", "units", "recovered", "distance", "sweeps", "seconds")


@dataclass(frozen=True)
class Trial:
    noise: float
    blocks: int
    units: int
    recovered: float
    distance: float
    sweeps: int
    seconds: float

    def cells(self, name: str) -> tuple[str, ...]:
        return (
            name,
            f"{self.noise:.0%}",
            f"{self.blocks:,}",
            f"{self.units:,}",
            f"{self.recovered:.2%}",
            f"{self.distance:g}",
            str(self.sweeps),
            f"{self.seconds:.1f}",
        )


def build(name: str) -> tuple[nn.Module, Tensor]:
    """An untrained model as its constructor leaves it, and an input."""
    if name != "mlp":
        return build_classifier(name)
    torch.manual_seed(0)
    sizes = (784, 512, 512, 512)
    layers = [layer for n, m in itertools.pairwise(sizes) for layer in (nn.Linear(n, m), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(512, 10)).eval(), torch.randn(1, 784)


def with_noise(state: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        name: tensor + share * tensor.std() * torch.randn(tensor.shape, generator=generator)
        if tensor.is_floating_point() and tensor.numel() > 1
        else tensor
        for name, tensor in state.items()
    }


def trial(symmetry: fr.Symmetry, a: dict[str, Tensor], noise: float) -> Trial:
    planted = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1))
    b = planted.apply(a)
    noisy = with_noise(b, noise) if noise else b
    found = fr.weight_matching(symmetry, noisy, to=a, progress=False)
    undone = found.permutation.compose(planted)
    back = found.permutation.apply(b)
    return Trial(
        noise,
        symmetry.block_count,
        symmetry.movable_units,
        1 - undone.moved_units / symmetry.movable_units,
        max(float((back[k] - t).abs().max()) for k, t in a.items() if t.numel()),
        found.sweeps,
        found.seconds,
    )


def main() -> int:
    parser = parser_of("planted", __doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--table", type=Path, help="write the Markdown table here")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    rows, failed = [], False
    for name in tqdm(options.models, unit="model"):
        model, x = build(name)
        symmetry = fr.analyze(model, args=(x,))
        for noise in (0.0, 0.01):
            result = trial(symmetry, model.state_dict(), noise)
            failed |= result.distance > 0
            rows.append(result.cells(name))
    table = markdown_table(HEADER, rows)
    print(table)
    if options.table:
        notes = provenance([commit()], [options.threads])
        legend = (
            "Random weights as the constructors leave them; the seconds are those of weight "
            "matching alone. `python -m benchmarks.planted` measures this table."
        )
        text = f"# Planted permutations\n\n{notes}\n{legend}\n\n{table}\n"
        write_atomically(options.table, text)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
