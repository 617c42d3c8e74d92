"""Decoders of text: absolute, rotary and linear-bias positions, experts, state spaces."""

from __future__ import annotations

import transformers
from torch import nn

from benchmarks.coverage.tiny_transformers.models import (
    HEAD,
    HEADS,
    LAYERS,
    MLP,
    ROTARY,
    VOCABULARY,
    D,
    architecture,
    attention,
    causal,
    f,
    grouped,
    tokens,
)


@architecture(tokens, f(D) + LAYERS * (attention() + f(4 * D)))
def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=32,
        n_embd=D,
        n_layer=LAYERS,
        n_head=HEADS,
        use_cache=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    return transformers.GPT2LMHeadModel(config)


@architecture(tokens, f(D) + LAYERS * (attention() + f(4 * D)))
def gpt_neo() -> nn.Module:
    config = transformers.GPTNeoConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=32,
        hidden_size=D,
        num_layers=2,
        attention_types=[[["global", "local"], 1]],
        window_size=4,
        num_heads=HEADS,
        use_cache=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    return transformers.GPTNeoForCausalLM(config)


@architecture(tokens, f(D) + LAYERS * (grouped(1, HEADS, values=HEAD, queries=HEAD) + f(4 * D)))
def gpt_bigcode() -> nn.Module:
    """Keys and values of all heads are the same."""
    config = transformers.GPTBigCodeConfig(
        vocab_size=VOCABULARY,
        n_positions=32,
        n_embd=D,
        n_layer=LAYERS,
        n_head=HEADS,
        multi_query=True,
        use_cache=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    return transformers.GPTBigCodeForCausalLM(config)


@architecture(tokens, f(D) + LAYERS * (attention(3, 6, 8) + f(MLP)))
def gpt_neox() -> nn.Module:
    """A quarter of the features is rotated: the first two of eight; the other six may move."""
    return causal("GPTNeoX", num_attention_heads=3, rotary_pct=0.25)


@architecture(tokens, f(D) + LAYERS * (attention(3, 4, 8) + f(4 * D)))
def gptj() -> nn.Module:
    """Four of eight features are rotated."""
    config = transformers.GPTJConfig(
        vocab_size=VOCABULARY,
        n_positions=32,
        n_embd=D,
        n_layer=LAYERS,
        n_head=3,
        rotary_dim=4,
        use_cache=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    return transformers.GPTJForCausalLM(config)


@architecture(tokens, f(16, D) + LAYERS * (attention() + f(MLP)))
def opt() -> nn.Module:
    """Embeddings and tied head in 16 features, projected in and out."""
    return causal(
        "OPT",
        ffn_dim=MLP,
        num_attention_heads=HEADS,
        word_embed_proj_dim=16,
        tie_word_embeddings=True,
    )


@architecture(tokens, f(D) + ROTARY)
def llama() -> nn.Module:
    return causal("Llama")


@architecture(tokens, f(D) + ROTARY)
def mistral() -> nn.Module:
    return causal("Mistral", sliding_window=4)


@architecture(tokens, f(D) + ROTARY)
def qwen2() -> nn.Module:
    return causal("Qwen2", tie_word_embeddings=True)


@architecture(tokens, f(D) + ROTARY)
def qwen3() -> nn.Module:
    """Norms of queries and keys have one weight per rotated feature, which all heads share."""
    return causal("Qwen3", head_dim=4)


@architecture(tokens, f(D) + ROTARY)
def gemma() -> nn.Module:
    return causal("Gemma", head_dim=4, tie_word_embeddings=True)


@architecture(tokens, f(D) + ROTARY)
def gemma2() -> nn.Module:
    return causal("Gemma2", head_dim=4, query_pre_attn_scalar=4, sliding_window=4)


@architecture(tokens, f(D) + ROTARY)
def gemma3() -> nn.Module:
    config = transformers.Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=D,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=4,
        query_pre_attn_scalar=4,
        sliding_window=4,
        use_cache=False,
    )
    return transformers.Gemma3ForCausalLM(config)


@architecture(tokens, f(D) + ROTARY)
def olmo2() -> nn.Module:
    """Norms of queries and keys over all heads."""
    return causal("Olmo2")


@architecture(tokens, f(D) + ROTARY)
def cohere() -> nn.Module:
    """Attention and perceptron side by side; features rotated in neighbouring pairs."""
    return causal("Cohere")


@architecture(tokens, f(D) + ROTARY)
def granite() -> nn.Module:
    return causal("Granite")


@architecture(tokens, f(D) + LAYERS * (grouped(2, 2, values=6, queries=4) + f(MLP)))
def stablelm() -> nn.Module:
    """A third of the features is rotated."""
    return causal("StableLm", num_attention_heads=HEADS, partial_rotary_factor=1 / 3)


@architecture(tokens, f(D) + ROTARY)
def starcoder2() -> nn.Module:
    return causal("Starcoder2")


@architecture(tokens, f(D) + LAYERS * (attention(3, 4, 8) + f(MLP)))
def phi() -> nn.Module:
    """Half of the features is rotated."""
    return causal("Phi", num_attention_heads=3, num_key_value_heads=3, partial_rotary_factor=0.5)


@architecture(tokens, f(D) + ROTARY)
def phi3() -> nn.Module:
    """Packed projections."""
    return causal("Phi3")


@architecture(tokens, f(D) + LAYERS * (grouped(1, 4, values=6) + f(4 * D)))
def falcon() -> nn.Module:
    """All heads share keys and values; rotary."""
    return causal("Falcon", num_attention_heads=4, multi_query=True, alibi=False, bias=False)


@architecture(tokens, f(D) + LAYERS * (grouped(2, 2, values=6) + f(4 * D)))
def falcon_with_groups() -> nn.Module:
    return causal(
        "Falcon", num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True, alibi=False
    )


@architecture(tokens, f(D) + LAYERS * (2 * HEADS * f(HEAD) + f(4 * D)))
def bloom() -> nn.Module:
    """ALiBi gives every head a slope of its own: heads stay, what is inside moves."""
    config = transformers.BloomConfig(
        vocab_size=VOCABULARY,
        hidden_size=D,
        n_layer=LAYERS,
        n_head=HEADS,
        use_cache=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    return transformers.BloomForCausalLM(config)


@architecture(tokens, f(D) + LAYERS * (2 * HEADS * f(HEAD) + f(4 * D)))
def mpt() -> nn.Module:
    """ALiBi, packed projections."""
    config = transformers.MptConfig(
        vocab_size=VOCABULARY,
        d_model=D,
        n_layers=LAYERS,
        n_heads=HEADS,
        max_seq_len=32,
        use_cache=False,
    )
    return transformers.MptForCausalLM(config)


EXPERTS = 5


@architecture(tokens, f(D) + LAYERS * (grouped(2, 3, values=4) + f(EXPERTS) + EXPERTS * f(MLP)))
def mixtral() -> nn.Module:
    """Experts move with the rows of the router, hidden features inside each."""
    return causal("Mixtral", num_local_experts=EXPERTS, num_experts_per_tok=2)


@architecture(tokens, f(D) + LAYERS * (grouped(2, 3, values=4) + f(EXPERTS) + EXPERTS * f(MLP)))
def olmoe() -> nn.Module:
    return causal("Olmoe", num_experts=EXPERTS, num_experts_per_tok=2)


@architecture(
    tokens, f(D) + LAYERS * (grouped(2, 3, values=4) + f(EXPERTS) + EXPERTS * f(12) + f(20))
)
def qwen2_moe() -> nn.Module:
    """A shared expert besides those that are chosen among."""
    return causal(
        "Qwen2Moe",
        num_experts=EXPERTS,
        num_experts_per_tok=2,
        moe_intermediate_size=12,
        shared_expert_intermediate_size=20,
    )


@architecture(tokens, f(D) + LAYERS * (grouped(2, 3, values=4) + f(EXPERTS) + EXPERTS * f(12)))
def qwen3_moe() -> nn.Module:
    return causal(
        "Qwen3Moe",
        head_dim=4,
        num_experts=EXPERTS,
        num_experts_per_tok=2,
        moe_intermediate_size=12,
    )


@architecture(tokens, f(D) + LAYERS * f(MLP, 9, 3))
def mamba() -> nn.Module:
    """Per layer: inner channels, the state, and the rank of the time steps."""
    return causal("Mamba", state_size=9, time_step_rank=3, conv_kernel=4)


@architecture(tokens, f(D) + LAYERS * f(12, MLP))
def rwkv() -> nn.Module:
    """Per layer: receptance, key and value share their features, and a perceptron."""
    return causal("Rwkv", attention_hidden_size=12, context_length=32, rescale_every=0)
