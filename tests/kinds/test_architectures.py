"""Kinds of models as people use them, and elements of their groups held against them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision.models as vision
import transformers as hf
from torch import nn

import fxrebasin as fr
from fxrebasin.kinds.checking import error_under_elements

pytestmark = pytest.mark.slow

TOKENS = torch.arange(6)[None]
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 50,
    "max_position_embeddings": 16,
    "use_cache": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
GROUPED = SIZES | {"num_key_value_heads": 2, "intermediate_size": 40}
GPT_2: dict[str, Any] = {
    "n_layer": 2,
    "n_embd": 32,
    "n_head": 4,
    "vocab_size": 50,
    "n_positions": 16,
    "use_cache": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
OPT = SIZES | {"ffn_dim": 40, "word_embed_proj_dim": 32, "tie_word_embeddings": False}

STREAM_LN = "O(31), keeps ones once 5 norms are absorbed"
STREAM_RMS = "O(32) once 5 norms are absorbed"

LANGUAGE: dict[str, tuple[Callable[[], nn.Module], float, dict[str, int]]] = {
    "GPT-2": (
        lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT_2, tie_word_embeddings=False)),
        1e-12,
        {STREAM_LN: 1, "GL(8)": 4, "S(4)": 2, "S(128)": 2},
    ),
    "GPT-2, tied": (
        lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT_2)),
        1e-12,
        {"monomial, 4 scales": 1, "GL(8)": 4, "S(4)": 2, "S(128)": 2},
    ),
    "BERT": (
        lambda: hf.BertModel(hf.BertConfig(**SIZES, intermediate_size=40)),
        1e-12,
        {"GL(8)": 4, "S(4)": 2, "S(40)": 2},
    ),
    "Llama": (  # its norms compute in float32
        lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED)),
        1e-6,
        {STREAM_RMS: 1, "GL(8)": 2, "S(2)": 4, "monomial": 2},
    ),
    "Qwen2": (
        lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**GROUPED)),
        1e-6,
        {STREAM_RMS: 1, "GL(8)": 2, "S(2)": 4, "monomial": 2},
    ),
    "GPT-NeoX": (
        lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**SIZES, intermediate_size=40)),
        1e-12,
        {STREAM_LN: 1, "GL(6)": 2, "GL(8)": 2, "S(4)": 2, "S(40)": 2},
    ),
    "OPT": (
        lambda: hf.OPTForCausalLM(hf.OPTConfig(**OPT)),
        1e-12,
        {STREAM_LN: 1, "GL(8)": 4, "S(4)": 2, "positive monomial": 2},
    ),
}
"""Models, how precisely they compute, and how many blocks there are of each kind."""

VISION: dict[str, tuple[Callable[[], nn.Module], int, set[str]]] = {
    "resnet18": (vision.resnet18, 64, {"monomial"}),
    "vgg11_bn": (vision.vgg11_bn, 32, {"monomial", "positive monomial"}),
    "mobilenet_v3_small": (
        vision.mobilenet_v3_small,
        64,
        {"monomial", "positive monomial", "S"},
    ),
    "shufflenet": (vision.shufflenet_v2_x0_5, 64, {"monomial"}),
    "a small ViT": (
        lambda: vision.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10),
        32,
        {"O|1", "GL", "S"},
    ),
}
"""Models, the size of their images, and all kinds of their blocks."""


@pytest.mark.parametrize("name", LANGUAGE)
def test_language_models(name: str) -> None:
    make, precision, expected = LANGUAGE[name]
    torch.manual_seed(0)
    model = make().eval()
    symmetry = fr.analyze(model, (TOKENS,))
    found = Counter(symmetry.kinds.of(b.name).describe(b.size) for b in symmetry)
    assert found == expected
    assert error_under_elements(model, (TOKENS,), symmetry=symmetry) < precision


@pytest.mark.parametrize("name", VISION)
def test_vision_models(name: str) -> None:
    make, size, expected = VISION[name]
    torch.manual_seed(0)
    model, x = make().eval(), torch.randn(1, 3, size, size)
    symmetry = fr.analyze(model, (x,))
    assert {symmetry.kinds.of(b.name).kind.name for b in symmetry} == expected
    assert error_under_elements(model, (x,), symmetry=symmetry) < 1e-12
