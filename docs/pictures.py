"""Draw the pictures of the pages: `python docs/pictures.py`, after the drawing has changed."""

from __future__ import annotations

import re
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

import fxrebasin as fr

PAGES = Path(__file__).parent / "pages"
PICTURES = PAGES / "pictures"


class Residual(nn.Module):
    """Two blocks that read from a stream and add to it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(16, 32)
        self.first = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32))
        self.second = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 32))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        stream = self.stem(x)
        stream = stream + self.first(stream)
        stream = stream + self.second(stream)
        return self.head(stream)


class Joined(nn.Module):
    """Two branches whose features are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(16, 24)
        self.right = nn.Linear(16, 40)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.left(x).relu(), self.right(x).tanh()], dim=1))


class Attention(nn.Module):
    """Four heads of eight features around a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.head(self.norm(x + self.attention(x, x, x)[0]))


def draw_barrier_of_the_tutorial() -> None:
    """What the tutorial draws, by what it says."""
    text = (PAGES / "tutorial.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    until = next(k for k, block in enumerate(blocks) if "barrier.png" in block)
    source = "".join(blocks[: until + 1]).replace("barrier.png", str(PICTURES / "tutorial.svg"))
    exec(compile(source, "tutorial.md", "exec"), {"__name__": "tutorial"})


def main() -> None:
    draw_barrier_of_the_tutorial()
    torch.manual_seed(0)
    tokens = torch.randint(100, (1, 6))
    resnet = torchvision.models.resnet18(num_classes=10)
    for name, model, x in (
        ("residual", Residual(), torch.randn(1, 16)),
        ("joined", Joined(), torch.randn(1, 16)),
        ("attention", Attention(), tokens),
        ("resnet18", resnet, torch.randn(1, 3, 64, 64)),
    ):
        fr.analyze(model, args=(x,)).plot(PICTURES / f"{name}.svg", title="")


if __name__ == "__main__":
    main()
