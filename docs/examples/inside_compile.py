# %% [markdown]
# # torch.compile
#
# A compiled model computes what model B computes, with weights in the basin of A, while B is
# trained on.

# %%
import copy

import torch
from torch import nn
from torch.nn import functional as F

import fxrebasin as fr


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
    )


model_a = network(0)

# %% [markdown]
# B is a copy of A whose units have been hidden in a random order, and moved a little.

# %%
symmetry = fr.analyze(model_a, args=(torch.randn(2, 16),))
hidden = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1))
model_b = hidden.apply_to(model_a)
with torch.no_grad():
    for parameter in model_b.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))

# %% [markdown]
# ## Compile
#
# `inner` is any backend; the default is inductor, which needs a C++ compiler.

# %%
compiled = torch.compile(model_b, backend=fr.backend(to=model_a, inner="aot_eager"))
x, labels = torch.randn(32, 16), torch.randint(4, (32,))
print(torch.allclose(compiled(x), model_b(x), atol=1e-5))
print(fr.backend.report(compiled))

# %% [markdown]
# ## Train on
#
# Gradients arrive at B's own parameters, and what an optimizer does counts in the next call. The
# permutation was solved once.

# %%
optimizer = torch.optim.SGD(model_b.parameters(), lr=0.1)
for _ in range(5):
    optimizer.zero_grad()
    loss = F.cross_entropy(compiled(x), labels)
    loss.backward()
    optimizer.step()
    print(f"{loss.item():.3f}")
print(torch.allclose(compiled(x), model_b(x), atol=1e-5))

# %% [markdown]
# ## Passes on what Dynamo captures
#
# The same backend runs passes before another backend: those of the library, or yours.

# %%
from torch.fx.passes.infra.pass_base import PassResult

from fxrebasin.passes import Propagate, Refine, Trace
from fxrebasin.passes.base import Pass
from fxrebasin.passes.state import state_of


class PrintSymmetry(Pass):
    """Print the group of every captured graph."""

    def call(self, graph_module: nn.Module) -> PassResult:
        print(state_of(graph_module, "symmetry").symmetry)
        return PassResult(graph_module, False)


passes = [Trace(), Propagate(), Refine(), PrintSymmetry()]
torch.compile(copy.deepcopy(model_b), backend=fr.backend(passes=passes, inner="eager"))(x)
