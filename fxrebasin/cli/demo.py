"""The demonstration: train pairs of small networks, align them, show the barrier before and after.

Two networks of the same shape learn the same 1,797 handwritten digits from different seeds. Both
are good, the average of the two is not: they sit in different basins. Then
:func:`fxrebasin.rebasin` reorders the hidden units of one, which changes nothing that it
computes, and the average is good.

The data come with scikit-learn, so nothing is downloaded. All figures are measured on test images
that no network was trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import fxrebasin as fr

from ..drawing.curves import Row, draw_rows
from ..drawing.figures import save_figure
from ..merging.interpolate import Path, interpolate

Batch = tuple[Tensor, Tensor]

_BATCH_SIZE = 64


@dataclass(frozen=True)
class Digits:
    """Images ``(n, 1, 8, 8)``, standardised, with labels ``(n,)``; 1,347 train and 450 test."""

    train: Batch
    test: Batch


@dataclass(frozen=True)
class Recipe:
    """An architecture and how it is trained: AdamW, the learning rate falling along a cosine."""

    name: str
    build: Callable[[], nn.Module]
    learning_rate: float
    weight_decay: float


@dataclass(frozen=True)
class Comparison:
    """The line from A to B as trained, the line from A to B aligned, and the report of that."""

    name: str
    before: Path
    after: Path
    report: str

    @property
    def reduction(self) -> float:
        """By which share of itself the barrier fell: 1 is all of it. nan if there was none."""
        barrier = self.before.barrier
        return (barrier - self.after.barrier) / barrier if barrier else float("nan")


def build_mlp() -> nn.Module:
    """A multilayer perceptron, 64-512-512-512-10, with ReLU."""
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(64, 512), nn.ReLU()),
        *(nn.Linear(512, 512), nn.ReLU()),
        *(nn.Linear(512, 512), nn.ReLU()),
        nn.Linear(512, 10),
    )


def build_convnet() -> nn.Module:
    """Three 3x3 convolutions of 64, 128 and 128 channels, each with BatchNorm and ReLU."""
    return nn.Sequential(
        *(nn.Conv2d(1, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128), nn.ReLU()),
        nn.MaxPool2d(2),
        *(nn.Conv2d(128, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)),
    )


RECIPES = (
    Recipe("MLP", build_mlp, learning_rate=1e-3, weight_decay=1.0),
    Recipe("ConvNet with BatchNorm", build_convnet, learning_rate=3e-3, weight_decay=1e-2),
)


def load_digits() -> Digits:
    """Load scikit-learn's digits with a fixed split, standardised by the training images.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    data = datasets.load_digits()
    images = data.images[:, None].astype(np.float32)
    x_train, x_test, y_train, y_test = (
        torch.from_numpy(part)
        for part in train_test_split(
            images, data.target, test_size=0.25, stratify=data.target, random_state=0
        )
    )
    mean, deviation = x_train.mean(), x_train.std()
    return Digits(
        train=((x_train - mean) / deviation, y_train), test=((x_test - mean) / deviation, y_test)
    )


def train_network(
    recipe: Recipe, data: Batch, *, seed: int, epochs: int, on_epoch: Callable[[], None]
) -> nn.Module:
    """Train one network; the seed decides its initialisation and the order of the batches."""
    images, labels = data
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = recipe.build().train()
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        steps = epochs * -(-len(images) // _BATCH_SIZE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(epochs):
            for index in torch.randperm(len(images)).split(_BATCH_SIZE):
                optimizer.zero_grad()
                F.cross_entropy(model(images[index]), labels[index]).backward()
                optimizer.step()
                schedule.step()
            on_epoch()
    return model.eval()


def compare(recipe: Recipe, digits: Digits, *, models: tuple[nn.Module, nn.Module]) -> Comparison:
    """Align the second model with the first, and measure the line between them before and after.

    BatchNorm statistics, where there are any, are measured afresh on the training images at every
    point of both lines.
    """
    images, labels = digits.test

    @torch.no_grad()
    def evaluate(model: nn.Module) -> dict[str, float]:
        logits = model(images)
        accuracy = (logits.argmax(1) == labels).double().mean()
        return {"loss": F.cross_entropy(logits, labels).item(), "accuracy": accuracy.item()}

    a, b = models
    aligned = fr.rebasin(b, to=a, args=(images[:8],))
    loader = digits.train[0].split(256)
    before, after = (
        interpolate(a, other, evaluate, loader=loader, progress=False) for other in (b, aligned)
    )
    return Comparison(recipe.name, before, after, str(aligned.report))


def run_demo(*, output: FilePath, seed: int, epochs: int, console: Console) -> list[Comparison]:
    """Run the whole demonstration: train, align, measure, print, draw.

    Args:
        output: where the picture goes.
        seed: the pair of models A and B is trained with the seeds ``2 * seed`` and
            ``2 * seed + 1``, so that different seeds share no network.
        epochs: how often each network sees the training images.
        console: where the progress bars and tables go.

    Returns:
        One comparison per recipe, in their order.
    """
    digits = load_digits()
    comparisons = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for recipe in RECIPES:
            models = _train_pair(recipe, digits.train, seed=seed, epochs=epochs, progress=progress)
            task = progress.add_task(f"{recipe.name}: aligning B with A", total=1)
            comparisons.append(compare(recipe, digits, models=models))
            progress.advance(task)
    rows = [Row(c.name, (("B as trained", c.before), ("B aligned", c.after))) for c in comparisons]
    save_figure(draw_rows(rows), output)
    print_comparisons(comparisons, console)
    console.print(f"picture: {output}")
    return comparisons


def _train_pair(
    recipe: Recipe, data: Batch, *, seed: int, epochs: int, progress: Progress
) -> tuple[nn.Module, nn.Module]:
    def trained(name: str, seed: int) -> nn.Module:
        task = progress.add_task(f"{recipe.name}: training {name}", total=epochs)
        advance = partial(progress.advance, task)
        return train_network(recipe, data, seed=seed, epochs=epochs, on_epoch=advance)

    return trained("A", 2 * seed), trained("B", 2 * seed + 1)


def print_comparisons(comparisons: list[Comparison], console: Console) -> None:
    """Print a table per comparison side by side, then what was gained."""
    console.print(Columns([_table(comparison) for comparison in comparisons], padding=(0, 2)))
    for comparison in comparisons:
        before, after = comparison.before, comparison.after
        console.print(
            f"[bold]{comparison.name}[/bold]: loss barrier {before.barrier:.4f} -> "
            f"{after.barrier:.4f} ({comparison.reduction:.1%} lower), accuracy half way "
            f"{before.midpoint['accuracy']:.1%} -> {after.midpoint['accuracy']:.1%}"
        )
        console.print(comparison.report, style="dim", markup=False, highlight=False)


def _table(comparison: Comparison) -> Table:
    before, after = comparison.before, comparison.after
    # Without outer borders, two tables fit beside each other in 80 columns.
    table = Table(
        title=comparison.name, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False
    )
    table.add_column("t", justify="right")
    for metric in ("loss", "accuracy"):
        table.add_column(f"{metric}\nbefore", justify="right", style="red")
        table.add_column(f"{metric}\nafter", justify="right", style="blue")
    for i, t in enumerate(before.points):
        losses = (f"{path.losses[i]:.4f}" for path in (before, after))
        accuracies = (f"{path.metrics['accuracy'][i]:.1%}" for path in (before, after))
        table.add_row(f"{t:.1f}", *losses, *accuracies)
    return table
