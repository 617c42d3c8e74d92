# %% [markdown]
# # Prune and renormalise
#
# A trained network is pruned, its channels are given back the means and deviations of the dense
# network, and units that nothing needs are cut out.

# %%
import copy

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

import fxrebasin as fr

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
train, test = order[:1300], order[1300:]

torch.manual_seed(0)
model = nn.Sequential(
    *(nn.Linear(64, 128), nn.ReLU()), *(nn.Linear(128, 128), nn.Tanh()), nn.Linear(128, 10)
)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
for _ in range(20):
    for batch in train[torch.randperm(len(train))].split(64):
        optimizer.zero_grad()
        F.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
model.eval()


@torch.no_grad()
def evaluate(model: nn.Module) -> str:
    outputs = model(images[test])
    right = (outputs.argmax(1) == labels[test]).float().mean().item()
    return f"loss {F.cross_entropy(outputs, labels[test]).item():.3f}, accuracy {right:.3f}"


print("dense   ", evaluate(model))

# %% [markdown]
# ## Kinds of symmetry
#
# Behind ReLU, units may be scaled by positive numbers; behind tanh, they may change their signs.

# %%
x = images[:2]
symmetry = fr.analyze(model, args=(x,))
for block in symmetry:
    print(block.name, symmetry.kinds.of(block.name).describe(block.size))

# %% [markdown]
# ## Prune weights, and repair
#
# Magnitude pruning makes activations smaller. `fr.repair` takes any model like the one given, here
# the dense one.

# %%
for amount in (0.8, 0.9):
    sparse = copy.deepcopy(model)
    layers = [(layer, "weight") for layer in sparse if isinstance(layer, nn.Linear)]
    prune.global_unstructured(layers, prune.L1Unstructured, amount=amount)
    for layer, name in layers:
        prune.remove(layer, name)
    repaired = fr.repair(sparse, like=[model], data=[images[train]])
    print(f"{amount:.0%} pruned", evaluate(sparse))
    print("repaired  ", evaluate(repaired))

# %% [markdown]
# ## Prune units, and cut them out
#
# `order` sorts the units of every block, here by the norm of what writes them; the last ones are
# set to zero, and `compact` cuts out what nothing needs. What it returns computes what the pruned
# model computes.

# %%
ordered = fr.order(model, args=(x,))
print(ordered.report)
with torch.no_grad():
    for name, parameter in ordered.named_parameters():
        if name.startswith(("0.", "2.")):
            parameter[96:] = 0
smaller = fr.compact(ordered, args=(x,))
print(smaller.report)
print("pruned  ", evaluate(ordered))
print("smaller ", evaluate(smaller))
