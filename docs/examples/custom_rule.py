# %% [markdown]
# # A rule of your own
#
# A custom op pins what it touches until somebody says what it does to units. Usually that is one
# line.

# %%
import torch
from torch import Tensor, nn

import fxrebasin as fr


@torch.library.custom_op("examples::scaled_norm", mutates_args=())
def scaled_norm(x: Tensor, scale: Tensor) -> Tensor:
    """Divide by the root mean square along the last axis, and scale every feature."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * scale


@scaled_norm.register_fake
def _(x: Tensor, scale: Tensor) -> Tensor:
    return torch.empty_like(x)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 4)
        self.scale = nn.Parameter(torch.rand(64) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(scaled_norm(self.up(x), self.scale))


torch.manual_seed(0)
model, x = Network(), torch.randn(8, 16)
symmetry = fr.analyze(model, args=(x,))
print(f"understood but for {symmetry.not_understood:.0%} of the units; {symmetry.unknown_ops}")
print(symmetry.explain("up.weight", dim=0))

# %% [markdown]
# ## A signature
#
# Features of the input, the scale and the result move together; the mean does not mind their order.
# `check_rule` runs the op on permuted arguments. A rule that claims too much is unsound, one that
# claims too little loses symmetry.

# %%
arguments = torch.randn(2, 5), torch.rand(5)
for rule in ("... c, c -> ... c", "... c, d -> ... c", "... _, _ -> ... _"):
    print(fr.testing.check_rule(scaled_norm, *arguments, rule=rule))

# %%
understood = fr.analyze(model, args=(x,), rules={scaled_norm: "... c, c -> ... c"})
print(understood)

# %% [markdown]
# ## A function
#
# What a string cannot say is composed of four primitives: `move`, `merge`, `reduce`, `pin`. This op
# deals features out like cards. Nothing meets and nothing is summed: the real movement is executed
# on units, whatever the number of hands.


# %%
def dealt(x: Tensor, hands: int) -> Tensor:
    return x.unflatten(-1, (-1, hands)).transpose(-1, -2).flatten(-2)


def rule_of_dealt(call: fr.Call, x: fr.Layout, hands: int) -> fr.Layout:
    (result,) = call.move(x, lambda t: dealt(t, hands))
    return result


print(fr.testing.check_rule(dealt, torch.randn(3, 6), 2, rule=rule_of_dealt))

# %% [markdown]
# ## For good
#
# `register_rule` keeps a rule for all calls. With it, two such models are aligned like any other.

# %%
fr.register_rule(scaled_norm, "... c, c -> ... c")
aligned = fr.rebasin(model, to=Network(), args=(x,), progress=False)
print(aligned.report)
fr.unregister_rule(scaled_norm)
