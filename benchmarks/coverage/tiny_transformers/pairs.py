"""Encoders with decoders, and encoders of sound.

What the encoder hands over is an output of these models too, and would be pinned; only the scores
are asked for here.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from benchmarks.coverage.tiny_transformers.models import (
    HEAD,
    HEADS,
    LAYERS,
    MLP,
    VOCABULARY,
    D,
    Outputs,
    architecture,
    attention,
    f,
    tokens,
)

ENCODER = LAYERS * (attention() + f(MLP))
DECODER = LAYERS * (2 * attention() + f(MLP))


def both(batch: int) -> dict[str, Tensor]:
    return {**tokens(batch), "decoder_input_ids": tokens(batch)["input_ids"][:, :5]}


def pair(model: str, **options: Any) -> nn.Module:
    """``<model>ForConditionalGeneration`` of a configuration in BART's manner."""
    config = getattr(transformers, f"{model}Config")(
        vocab_size=VOCABULARY,
        d_model=D,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=MLP,
        decoder_ffn_dim=MLP,
        max_position_embeddings=32,
        use_cache=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        forced_eos_token_id=None,
        **options,
    )
    name = "MTModel" if model == "Marian" else "ForConditionalGeneration"
    return Outputs(getattr(transformers, f"{model}{name}")(config), "logits")


@architecture(both, f(D) + ENCODER + DECODER)
def bart() -> nn.Module:
    """One table embeds on both sides and scores, so both streams are one."""
    return pair("Bart")


@architecture(both, f(D) + ENCODER + DECODER)
def mbart() -> nn.Module:
    """Norms before, and after the last block."""
    return pair("MBart")


@architecture(both, f(D) + ENCODER + DECODER)
def pegasus() -> nn.Module:
    """Positions are sines, but stored as parameters."""
    return pair("Pegasus")


@architecture(both, f(D) + ENCODER + DECODER)
def marian() -> nn.Module:
    return pair("Marian")


def t5_attention(layers: int) -> float:
    """One bias for all layers of a stack: their heads move as one, what is inside by itself."""
    return f(HEADS) + layers * 2 * HEADS * f(HEAD)


def t5_like(model: str, **options: Any) -> nn.Module:
    config = getattr(transformers, f"{model}Config")(
        vocab_size=VOCABULARY,
        d_model=D,
        d_kv=HEAD,
        d_ff=MLP,
        num_layers=LAYERS,
        num_heads=HEADS,
        relative_attention_num_buckets=8,
        use_cache=False,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        **options,
    )
    return Outputs(getattr(transformers, f"{model}ForConditionalGeneration")(config), "logits")


@architecture(both, f(D) + 2 * t5_attention(LAYERS) + LAYERS * (attention() + 2 * f(MLP)))
def t5() -> nn.Module:
    """Self-attention on both sides, attention from one to the other, two perceptrons."""
    return t5_like("T5")


@architecture(both, f(D) + 2 * t5_attention(LAYERS) + LAYERS * (attention() + 2 * f(MLP)))
def mt5() -> nn.Module:
    """Gated; the scores have a table of their own, whose columns are still the stream's."""
    return t5_like("MT5", tie_word_embeddings=False)


@architecture(both, f(D) + LAYERS * (3 * attention() + 2 * f(MLP)))
def umt5() -> nn.Module:
    """A bias in every layer."""
    return t5_like("UMT5")


def spectrograms(batch: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, 10, 16, generator=generator)
    return {"input_features": features, "decoder_input_ids": tokens(batch)["input_ids"][:, :5]}


@architecture(spectrograms, 3 * f(D) + ENCODER + DECODER)
def whisper() -> nn.Module:
    """The first convolution, and two streams: the encoder's and that of the tied decoder."""
    config = transformers.WhisperConfig(
        vocab_size=VOCABULARY,
        num_mel_bins=10,
        d_model=D,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=MLP,
        decoder_ffn_dim=MLP,
        max_source_positions=8,
        max_target_positions=16,
        use_cache=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    return Outputs(transformers.WhisperForConditionalGeneration(config), "logits")


def sound(batch: int) -> dict[str, Tensor]:
    return {"input_values": torch.randn(batch, 400, generator=torch.Generator().manual_seed(0))}


def heard(model: str, **options: Any) -> nn.Module:
    """``<model>ForCTC``, with two convolutions before the blocks."""
    config = getattr(transformers, f"{model}Config")(
        vocab_size=VOCABULARY,
        hidden_size=D,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=MLP,
        conv_dim=(12, 15),
        conv_kernel=(10, 3),
        conv_stride=(5, 2),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=HEADS,
        pad_token_id=0,
        apply_spec_augment=False,
        **options,
    )
    built: nn.Module = getattr(transformers, f"{model}ForCTC")(config)
    return built


STREAM_IN_GROUPS = f(HEADS) + HEADS * f(HEAD)
"""A grouped convolution of the stream is added to the stream: its groups move as wholes."""


@architecture(sound, f(12, 15) + STREAM_IN_GROUPS + ENCODER)
def wav2vec2() -> nn.Module:
    """The convolution for positions is in groups, and normalised by weight per tap."""
    return heard("Wav2Vec2")


@architecture(sound, f(12, 15) + STREAM_IN_GROUPS + ENCODER)
def hubert() -> nn.Module:
    return heard("Hubert")


WAVLM_HEADS = f(HEADS) + LAYERS * 2 * HEADS * f(HEAD)
WAVLM_STREAM = f(HEAD) + LAYERS * 2 * f(4)


@architecture(
    sound,
    f(12, 15) + WAVLM_STREAM + WAVLM_HEADS + LAYERS * f(MLP),
    inert=("gru_rel_pos_linear.bias",),
)
def wavlm() -> nn.Module:
    """One position bias for all layers, gated per head by the head's part of the stream.

    So the heads of all layers and the parts of the stream move as one; the gates' projection,
    which all heads share, allows for one order of features inside the parts. Its outputs are
    summed by fours.
    """
    return heard("WavLM", num_buckets=8, max_bucket_distance=16)
