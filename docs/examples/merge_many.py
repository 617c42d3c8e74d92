# %% [markdown]
# # Merge many and repair
#
# Six networks become one. Methods are compared, then repairs, and then the number that counts
# decides.

# %%
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import fxrebasin as fr

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
train, test = order[:1300], order[1300:]


def trained(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Linear(64, 128), nn.ReLU()), *(nn.Linear(128, 128), nn.ReLU()), nn.Linear(128, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    for _ in range(15):
        for batch in train[torch.randperm(len(train))].split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def evaluate(model: nn.Module) -> dict[str, float]:
    outputs = model(images[test])
    right = (outputs.argmax(1) == labels[test]).float().mean().item()
    return {"loss": F.cross_entropy(outputs, labels[test]).item(), "accuracy": right}


models = [trained(seed) for seed in range(6)]
for model in models:
    print(evaluate(model))

# %% [markdown]
# ## Methods
#
# Each takes state dicts and returns one, with the permutations that brought every model there.

# %%
symmetry = fr.analyze(models[0], args=(images[:2],))
states = [model.state_dict() for model in models]
methods = fr.merge_methods
template = trained(0)
for method in (
    methods.mean,
    methods.to_reference,
    methods.sequential,
    methods.tree,
    methods.many,
    partial(methods.cycle_consistent, steps=20),
):
    merged = method(symmetry, states, progress=False)
    template.load_state_dict(merged.state_dict)
    name = getattr(method, "__name__", "cycle_consistent")
    print(f"{name:17}", evaluate(template))

# %% [markdown]
# ## Repair
#
# A mean of networks varies less than its parents do. REPAIR gives every channel the mean and the
# deviation that it has in the parents; where, is found on the graph.

# %%
merged = methods.many(symmetry, states, progress=False)
template.load_state_dict(merged.state_dict)
batches = [images[train]]
parents = [
    permutation.apply_to(model)
    for permutation, model in zip(merged.permutations, models, strict=True)
]
for method_name in ("repair", "rescale", "reshift"):
    repaired = fr.repair(template, like=parents, data=batches, method=method_name)
    print(f"{method_name:8}", evaluate(repaired))

# %% [markdown]
# ## Let the loss decide
#
# Here for three of them. With `choose`, several alignments are tried, each with several repairs,
# and what `evaluate` likes best is kept. Choose on other data than you report on.

# %%
best = fr.merge(models[:3], data=batches, evaluate=evaluate, choose=min, progress=False)
print(best.report)
