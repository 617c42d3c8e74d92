"""Networks with weights that were trained, and inputs for them.

Those of ANI-1x, an ensemble of potentials for molecules, are files inside of the package torchani
on PyPI (MIT licence), which is downloaded and read, and not installed. The others are trained here
on the digits of scikit-learn.
"""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fxrebasin.cli.demo import RECIPES, load_digits, train_network

ANI = "torchani==2.2.4"
WHEEL = "torchani-2.2.4-py3-none-any.whl"
SHA256 = "de99afb38aeee9bf8553e58c468539ed41baf6b217833c2fc90429ad4261a02d"
SIZES = {
    "H": (384, 160, 128, 96, 1),
    "C": (384, 144, 112, 96, 1),
    "N": (384, 128, 112, 96, 1),
    "O": (384, 128, 112, 96, 1),
}


class Network(NamedTuple):
    """Networks of one architecture, and inputs."""

    name: str
    members: list[nn.Module]
    inputs: Tensor


def networks(cache: Path, *, epochs: int) -> Iterator[Network]:
    """Every network that can be had."""
    digits = load_digits()
    for recipe in RECIPES:
        members = [
            train_network(recipe, digits.train, seed=s, epochs=epochs, on_epoch=lambda: None).eval()
            for s in range(3)
        ]
        yield Network(f"{recipe.name}, digits", members, digits.test[0])
    wheel = download(cache)
    if wheel is None:
        print(f"{ANI} cannot be had: its weights are left out", file=sys.stderr)
        return
    for element, sizes in SIZES.items():
        members = [read_ani(wheel, member, element, sizes) for member in range(8)]
        inputs = torch.randn(512, sizes[0], generator=torch.Generator().manual_seed(0)).abs() / 10
        yield Network(f"ANI-1x, {element}", members, inputs)


def download(cache: Path) -> Path | None:
    """The wheel of torchani, from the cache or by pip; None where neither has it."""
    wheel = cache / WHEEL
    if not wheel.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "-q",
            ANI,
            "-d",
            str(cache),
        ]
        subprocess.run(command, capture_output=True, check=False)
    if not wheel.exists() or hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
        return None
    return wheel


def read_ani(wheel: Path, member: int, element: str, sizes: tuple[int, ...]) -> nn.Module:
    """The network of one chemical element of one member of the ensemble."""
    layers: list[nn.Module] = []
    folder = f"torchani/resources/ani-1x_8x/train{member}/networks/ANN-{element}.nnf"
    with zipfile.ZipFile(wheel) as archive, torch.no_grad():
        for k, (n, m) in enumerate(itertools.pairwise(sizes), start=1):
            layer = nn.Linear(n, m)
            for kind, parameter in (("w", layer.weight), ("b", layer.bias)):
                raw = archive.read(f"{folder}-l{k}.{kind}param")
                values = np.frombuffer(raw, dtype=np.float32).copy()
                parameter.copy_(torch.from_numpy(values).reshape(parameter.shape))
            layers += [layer, nn.CELU(alpha=0.1)]
    return nn.Sequential(*layers[:-1]).eval()
