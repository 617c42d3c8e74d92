"""Networks that are trained here, once: their weights stay in the cache.

A network is trained by Adam with decoupled weight decay, at a learning rate that rises over the
first steps and then falls along a cosine. The seed decides its initialisation and the order of
batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.merging.fashion import Images
from benchmarks.merging.packages import CACHE
from fxrebasin.files import replacing


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained."""

    name: str
    """Different for what is different in ``build`` and in the data."""
    build: Callable[[], nn.Module]
    epochs: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch: int = 512
    warm_up: float = 0.1
    """The share of steps over which the learning rate rises."""

    def file(self, seed: int, images: int) -> str:
        """The name of the file that the weights of one seed are kept in."""
        said = (self.name, self.epochs, self.learning_rate, self.weight_decay, self.batch)
        told = repr((*said, self.warm_up, images, seed))
        return f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.safetensors"


def trained(recipe: Recipe, data: Images, *, seed: int) -> nn.Module:
    """A network in eval mode, from the cache or trained now.

    Args:
        recipe: what is trained, and how.
        data: the training images.
        seed: of initialisation and batches.
    """
    path = CACHE / "trained" / recipe.file(seed, len(data.labels))
    model = recipe.build()
    if not path.exists():
        model = train(recipe, data, seed=seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, draft)
    model.load_state_dict(load_file(path))
    return model.eval()


def train(recipe: Recipe, data: Images, *, seed: int) -> nn.Module:
    """Train a network; torch's random state is left as it was."""
    count = len(data.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = recipe.build().train()
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        steps = recipe.epochs * -(-count // recipe.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.learning_rate, steps, pct_start=recipe.warm_up, cycle_momentum=False
        )
        bar = tqdm(total=steps, desc=f"train {recipe.name}, seed {seed}", leave=False)
        for _ in range(recipe.epochs):
            for index in torch.randperm(count).split(recipe.batch):
                optimizer.zero_grad()
                logits, labels = model(data.images[index]), data.labels[index]
                F.cross_entropy(logits.flatten(0, -2), labels.flatten()).backward()
                optimizer.step()
                schedule.step()
                bar.update()
        bar.close()
    return model.eval()


@torch.no_grad()
def scores(
    model: Callable[[Tensor], Tensor], data: Images, *, batch: int = 1000
) -> dict[str, float]:
    """Mean cross-entropy in nats, and accuracy, of what gives logits, the last dim the classes."""
    loss = right = 0.0
    for images, labels in zip(data.images.split(batch), data.labels.split(batch), strict=True):
        logits = model(images)
        loss += F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum").item()
        right += (logits.argmax(-1) == labels).sum().item()
    count = data.labels.numel()
    return {"loss": loss / count, "accuracy": right / count}
