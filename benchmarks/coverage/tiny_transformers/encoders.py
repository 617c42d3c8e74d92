"""Encoders of text that fill in masked words.

The head transforms the stream and ends in the embedding that it is tied to, so it adds nothing.
"""

from __future__ import annotations

import transformers
from torch import nn

from benchmarks.coverage.tiny_transformers.models import (
    ENCODER,
    HEAD,
    HEADS,
    LAYERS,
    MLP,
    VOCABULARY,
    D,
    architecture,
    attention,
    f,
    masked,
    tokens,
)


@architecture(tokens, f(D) + ENCODER)
def bert() -> nn.Module:
    return masked("Bert")


@architecture(tokens, 2 * f(D) + ENCODER)
def bert_with_an_untied_head() -> nn.Module:
    """The transform's output is a space of its own."""
    return masked("Bert", tie_word_embeddings=False)


@architecture(tokens, f(D) + ENCODER)
def roberta() -> nn.Module:
    return masked("Roberta", pad_token_id=1)


@architecture(tokens, f(D) + ENCODER)
def xlm_roberta() -> nn.Module:
    return masked("XLMRoberta", pad_token_id=1)


@architecture(tokens, f(D) + ENCODER)
def distilbert() -> nn.Module:
    options = {"dim": D, "hidden_dim": MLP, "n_layers": LAYERS, "n_heads": HEADS}
    config = transformers.DistilBertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=32, **options
    )
    return transformers.DistilBertForMaskedLM(config)


@architecture(tokens, f(16, D) + attention() + f(MLP))
def albert() -> nn.Module:
    """Factorised embeddings, and one block whose weights every layer shares."""
    return masked("Albert", embedding_size=16)


@architecture(tokens, f(16, D) + ENCODER)
def electra() -> nn.Module:
    """Factorised embeddings."""
    return masked("Electra", embedding_size=16)


@architecture(tokens, f(D) + ENCODER)
def deberta_v2() -> nn.Module:
    """Queries and keys also project the relative positions, which thereby join the stream."""
    return masked(
        "DebertaV2",
        relative_attention=True,
        position_buckets=4,
        max_relative_positions=8,
        pos_att_type=["p2c", "c2p"],
        share_att_key=True,
        type_vocab_size=0,
        norm_rel_ebd="layer_norm",
    )


@architecture(
    tokens,
    f(D) + f(HEADS) + LAYERS * (2 * HEADS * f(HEAD) + f(MLP)),
    inert=("attn.k.bias",),
)
def mpnet() -> nn.Module:
    """One relative position bias is added in every layer: the heads of all layers move as one."""
    return masked("MPNet", pad_token_id=1)


@architecture(tokens, f(D) + LAYERS * (f(HEADS) + HEADS * f(HEAD) + f(MLP)))
def modernbert() -> nn.Module:
    """Rotary, gated."""
    return masked(
        "ModernBert",
        global_attn_every_n_layers=2,
        local_attention=8,
        cls_token_id=1,
        sep_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
    )
