# %% [markdown]
# # Align two networks
#
# Two convolutional networks with BatchNorm learn handwritten digits from different seeds. One is
# permuted into the basin of the other, and the loss on the line between them is drawn before and
# after.

# %%
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import fxrebasin as fr

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
train, test = order[:1300], order[1300:]

# %% [markdown]
# What the branch adds is in the order of what the stem writes: one stream.


# %%
class Network(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width))
        self.branch = nn.Sequential(
            *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU()),
            *(nn.Conv2d(2 * width, width, 3, padding=1), nn.BatchNorm2d(width)),
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x).relu(), 2)
        x = (x + self.branch(x)).relu()
        return self.head(x.mean((2, 3)))


def trained(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = Network()
    epochs = 8
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for batch in train[torch.randperm(len(train))].split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()
    return model.eval()


model_a, model_b = trained(0), trained(1)

# %% [markdown]
# ## The symmetry
#
# The stream is one block, the inside of the branch another.

# %%
x = images[:2]
symmetry = fr.analyze(model_b, args=(x,))
print(symmetry)
symmetry.plot("blocks.svg")

# %% [markdown]
# ## Align, by weights and by activations

# %%
by_weights = fr.rebasin(model_b, to=model_a, args=(x,), symmetry=symmetry)
print(by_weights.report)

found = fr.activation_matching(model_b, to=model_a, args=(images[train[:256]],), symmetry=symmetry)
by_activations = found.permutation.apply_to(model_b)

# %% [markdown]
# ## The barrier
#
# The running statistics of BatchNorm are measured afresh at every point.


# %%
@torch.no_grad()
def evaluate(model: nn.Module) -> dict[str, float]:
    outputs = model(images[test])
    right = (outputs.argmax(1) == labels[test]).float().mean().item()
    return {"loss": F.cross_entropy(outputs, labels[test]).item(), "accuracy": right}


def path_to(model: nn.Module) -> fr.Path:
    batches = [images[train]]
    return fr.interpolate(model_a, model, evaluate, steps=7, loader=batches, progress=False)


before, weights, activations = map(path_to, (model_b, by_weights, by_activations))
print(f"as trained             {before.barrier:.3f}")
print(f"aligned by weights     {weights.barrier:.3f}")
print(f"aligned by activations {activations.barrier:.3f}")
before.plot("barrier.png", compare=weights, labels=("B as trained", "B aligned"))

# %% [markdown]
# ## Layer by layer

# %%
print(fr.diagnose(model_a, model_b, by_weights, data=[images[train[:256]]]))
