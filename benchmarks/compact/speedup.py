"""Models with a third of their units set to zero, and what is left of them: size and latency."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.compact.zeros import draw_units, zero_units
from benchmarks.measuring.models import build_classifier
from benchmarks.measuring.random_weights import randomise_deep

MODELS = ("resnet18", "vgg11_bn", "vit_b_16", "llama")
SHARE = 1 / 3


class Row(NamedTuple):
    """Of one model, before and after."""

    name: str
    parameters: tuple[int, int]
    seconds: tuple[float, float]
    """Of a forward pass, compiled."""
    cutting: float
    """Seconds that the cut has taken."""
    error: float


def build_llama() -> tuple[nn.Module, Tensor]:
    """Four layers of a decoder with rotary positions and gated MLPs, and 128 tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        use_cache=False,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval(), torch.randint(4096, (1, 128))


def build(name: str) -> tuple[nn.Module, Tensor]:
    if name == "llama":
        return build_llama()
    model, image = build_classifier(name)
    randomise_deep(model, image)
    return model, image


def prune(name: str, model: nn.Module, x: Tensor) -> tuple[fr.Symmetry, list[fr.FrontEnd]]:
    """Set a third of the units to zero; in transformers, all but the features of the stream, which
    norms take a mean over. The group is found without a test: the cut is tested."""
    front_ends: list[fr.FrontEnd] = ["symbolic_trace", "export"]
    if name == "vit_b_16":  # its heads are seen in an exported graph only
        front_ends = ["export"]
    symmetry = fr.analyze(model, (x,), front_ends=front_ends, check=False)
    longest = max(symmetry, key=lambda block: len(block.axes)).name
    leave = [longest] if name in ("vit_b_16", "llama") else []
    zero_units(model, symmetry, draw_units(symmetry, SHARE, leave=leave))
    return symmetry, front_ends


def measure(name: str, runs: int) -> Row:
    """Prune, cut, compile both, and let them take turns."""
    model, x = build(name)
    symmetry, front_ends = prune(name, model, x)
    begin = time.perf_counter()
    smaller = fr.compact(model, (x,), symmetry=symmetry, front_ends=front_ends)
    cutting = time.perf_counter() - begin
    report = smaller.report
    with torch.no_grad():
        compiled: list[Any] = [torch.compile(m) for m in (model, smaller)]
        pairs = [[_seconds(m, x) for m in compiled] for _ in range(runs + 2)]
    before, after = (statistics.median(column) for column in zip(*pairs[2:], strict=True))
    sizes = (report.parameters_before, report.parameters_after)
    return Row(name, sizes, (before, after), cutting, report.verification.error)


def _seconds(model: Callable[[Tensor], object], x: Tensor) -> float:
    begin = time.perf_counter()
    model(x)
    return time.perf_counter() - begin
