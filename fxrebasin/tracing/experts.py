"""Mixtures of experts, written so that one sees that experts are alike.

transformers sorts the tokens by expert and runs each run of tokens through its expert's weights.
Which tokens an expert gets is known only for one input, and says nothing about others. While a
model is analysed its experts are therefore spelled out: every expert runs on every token, and its
result counts zero where the router did not choose it. That is the same function.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

MARKS = ("_apply_gate", "has_gate", "has_bias", "is_transposed", "down_proj", "num_experts")
"""What tells modules whose forward transformers has made exchangeable."""


def has_experts(model: nn.Module) -> bool:
    """Is there a mixture of experts of the kind that can be spelled out?"""
    return any(map(_is_mixture, model.modules()))


def _is_mixture(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in MARKS)


def spell_out_experts(model: nn.Module) -> None:
    """Let every mixture of experts in a model run all of its experts on all tokens, in place."""
    for module in filter(_is_mixture, model.modules()):
        vars(module)["forward"] = MethodType(_run_all, module)


def _run_all(self: Any, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """What the experts make of ``hidden (n d)``, given which ones ``(n k)`` and how much each."""
    everywhere = hidden.expand(self.num_experts, *hidden.shape)
    inside = _linear(self, everywhere, "gate_up_proj" if self.has_gate else "up_proj")
    inside = self._apply_gate(inside) if self.has_gate else self.act_fn(inside)
    results = _linear(self, inside, "down_proj")
    if getattr(self, "has_post_expert_norm", False):
        results = self.post_expert_norm(results)
    none = weights.new_zeros(len(hidden), self.num_experts)
    shares = none.scatter(1, chosen, weights).t().unsqueeze(-1)
    return (results * shares).sum(0).to(hidden.dtype)


def _linear(self: Any, x: Tensor, name: str) -> Tensor:
    weight = getattr(self, name)
    out = torch.bmm(x, weight if self.is_transposed else weight.transpose(1, 2))
    return out + getattr(self, f"{name}_bias").unsqueeze(1) if self.has_bias else out
