"""A fine-tuning carried over between networks that were trained apart.

Two MLPs, A and B, learn the handwritten digits of scikit-learn from different seeds. A is then
trained on the same digits turned by a quarter, which neither knows. What that has changed is added
to B: as it is, and moved to where B has its units (`fxrebasin.transport`, without data). Accuracies
are of test images: turned, which B has never seen, and upright, which B should not forget.

    python -m benchmarks.transport --table benchmarks/transport/transport.md
"""

from __future__ import annotations

import copy
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import fxrebasin as fr
from benchmarks.measuring.reporting import (
    commit,
    markdown_table,
    parser_of,
    provenance,
    write_atomically,
)
from fxrebasin.cli.demo import load_digits

WIDTHS = (64, 512)
SCALES = (0.5, 1.0, 1.5)
HEADER = ("width", "model", "turned", "lowest", "highest", "upright")
Batch = tuple[Tensor, Tensor]


def turned(images: Tensor) -> Tensor:
    return torch.rot90(images, 1, (2, 3))


def mlp(width: int) -> nn.Module:
    hidden = (nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))


def train(
    model: nn.Module, data: Batch, *, epochs: int, learning_rate: float, decay: float, seed: int
) -> nn.Module:
    images, labels = data
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=decay)
    for _ in range(epochs):
        for index in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[index]), labels[index]).backward()
            optimizer.step()
    return model.eval()


def accuracies(model: nn.Module, test: Batch) -> tuple[float, float]:
    """On turned and on upright images."""
    images, labels = test
    with torch.no_grad():
        found = [(model(x).argmax(1) == labels).double() for x in (turned(images), images)]
    return float(found[0].mean()), float(found[1].mean())


def measure(width: int, seed: int) -> dict[str, tuple[float, float]]:
    """Accuracies by model, of one pair."""
    digits = load_digits()
    images, labels = digits.train
    bases = []
    for k in range(2):
        torch.manual_seed(2 * seed + k)
        recipe = {"epochs": 20, "learning_rate": 1e-3, "decay": 1.0, "seed": 2 * seed + k}
        bases.append(train(mlp(width), digits.train, **recipe))  # type: ignore[arg-type]
    a, b = bases
    recipe = {"epochs": 5, "learning_rate": 3e-4, "decay": 0.0, "seed": seed}
    data = (turned(images), labels)
    fine_tuned = train(copy.deepcopy(a), data, **recipe)  # type: ignore[arg-type]
    symmetry = fr.analyze(a, (images[:2],))
    base, to = a.state_dict(), b.state_dict()
    moved = fr.match(symmetry, base, to=to, progress=False)
    ways = {"as it is": fr.Permutation.identity(symmetry), "carried over": moved}
    models: dict[str, Callable[[], nn.Module]] = {
        "A": lambda: a,
        "A, fine-tuned": lambda: fine_tuned,
        "B": lambda: b,
    }
    found = {name: accuracies(model(), digits.test) for name, model in models.items()}
    for way, permutation in ways.items():
        for scale in SCALES:
            state = fr.transport(
                symmetry,
                fine_tuned.state_dict(),
                base=base,
                to=to,
                permutation=permutation,
                scale=scale,
            )
            model = mlp(width)
            model.load_state_dict(state)
            found[f"B + {scale} times the change, {way}"] = accuracies(model.eval(), digits.test)
    return found


def main() -> None:
    parser = parser_of("benchmarks.transport", __doc__)
    parser.add_argument("--seeds", type=int, default=5, help="pairs of each width")
    parser.add_argument("--table", type=Path, help="write the Markdown table here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for width in tqdm(WIDTHS, file=sys.stderr, disable=None):
        pairs = [measure(width, seed) for seed in range(args.seeds)]
        for name in pairs[0]:
            on_turned, upright = zip(*(pair[name] for pair in pairs), strict=True)
            figures = (statistics.mean(on_turned), min(on_turned), max(on_turned))
            shown = (*figures, statistics.mean(upright))
            rows.append((str(width), name, *(f"{x:.1%}" for x in shown)))
    table = markdown_table(HEADER, rows)
    print(table)
    if args.table:
        note = (
            "`python -m benchmarks.transport` measures this table. Two MLPs learn digits apart; A "
            "is fine-tuned on digits turned by a quarter, and what that has changed is added to B, "
            "as it is and as `fxrebasin.transport` carries it over, without data. Accuracies of "
            f"test images, means of {args.seeds} pairs, and the lowest and highest of turned ones."
        )
        header = f"# A fine-tuning for another base\n\n{provenance([commit()], [1])}"
        write_atomically(args.table, f"{header}\n{note}\n\n{table}\n")


if __name__ == "__main__":
    main()
