"""Transformers that look at images, alone or together with text."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from benchmarks.coverage.tiny_transformers.models import (
    ENCODER,
    HEADS,
    LAYERS,
    MLP,
    VOCABULARY,
    D,
    Inputs,
    Outputs,
    architecture,
    attention,
    f,
    tokens,
)


def images(size: int = 16) -> Inputs:
    def inputs(batch: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        return {"pixel_values": torch.randn(batch, 3, size, size, generator=generator)}

    return inputs


def classifier(model: str, **options: Any) -> nn.Module:
    """``<model>ForImageClassification`` of a configuration in ViT's manner."""
    shared: dict[str, Any] = {
        "image_size": 16,
        "patch_size": 4,
        "hidden_size": D,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": MLP,
        "num_labels": 5,
    }
    config = getattr(transformers, f"{model}Config")(**{**shared, **options})
    built: nn.Module = getattr(transformers, f"{model}ForImageClassification")(config)
    return built


@architecture(images(), f(D) + ENCODER)
def vit() -> nn.Module:
    return classifier("ViT")


@architecture(images(), f(D) + ENCODER)
def deit() -> nn.Module:
    return classifier("DeiT")


@architecture(images(), f(D) + ENCODER)
def beit() -> nn.Module:
    """A relative position bias per layer, whose columns are the heads."""
    return classifier("Beit", use_relative_position_bias=True)


@architecture(images(), f(D) + f(HEADS) + LAYERS * (2 * HEADS * f(D // HEADS) + f(MLP)))
def beit_with_one_bias() -> nn.Module:
    """The heads of all layers move as one."""
    return classifier(
        "Beit", use_relative_position_bias=False, use_shared_relative_position_bias=True
    )


@architecture(images(), f(D) + ENCODER)
def data2vec_vision() -> nn.Module:
    return classifier("Data2VecVision", use_relative_position_bias=True)


@architecture(images(), f(D) + LAYERS * (attention() + f(4 * D)))
def dinov2() -> nn.Module:
    """Layer scales; the mean of the patches is set beside the class token."""
    return classifier("Dinov2", mlp_ratio=4)


@architecture(images(), f(D) + ENCODER)
def vit_msn() -> nn.Module:
    return classifier("ViTMSN")


def swin_stages(*stages: tuple[int, int, int]) -> float:
    """Width, heads and blocks of every stage."""
    return sum(
        f(width) + depth * (attention(heads, width // heads) + f(4 * width))
        for width, heads, depth in stages
    )


def windowed(model: str) -> nn.Module:
    config = getattr(transformers, f"{model}Config")(
        image_size=32,
        patch_size=4,
        embed_dim=12,
        depths=[2, 1],
        num_heads=[2, 3],
        window_size=4,
        num_labels=5,
    )
    built: nn.Module = getattr(transformers, f"{model}ForImageClassification")(config)
    return built


@architecture(images(32), swin_stages((12, 2, 2), (24, 3, 1)))
def swin() -> nn.Module:
    """The second stage begins with a projection of four neighbours."""
    return windowed("Swin")


@architecture(images(32), swin_stages((12, 2, 2), (24, 3, 1)) + 3 * f(512))
def swinv2() -> nn.Module:
    """Position biases by a perceptron of 512 features per block."""
    return windowed("Swinv2")


@architecture(images(32), f(12, 24) + 2 * f(4 * 12) + f(4 * 24))
def convnext() -> nn.Module:
    return classifier("ConvNext", image_size=32, num_stages=2, hidden_sizes=[12, 24], depths=[2, 1])


@architecture(images(32), f(12, 24) + 2 * f(4 * 12) + f(4 * 24))
def convnextv2() -> nn.Module:
    """Global response norms inside the blocks."""
    return classifier(
        "ConvNextV2", image_size=32, num_stages=2, hidden_sizes=[12, 24], depths=[2, 1]
    )


BACKBONE = f(8) + 2 * f(12, 20)


@architecture(images(32), BACKBONE)
def resnet() -> nn.Module:
    """A stem, and per stage the stream and the inside of one block."""
    return classifier(
        "ResNet",
        embedding_size=8,
        hidden_sizes=[12, 20],
        depths=[1, 1],
        layer_type="basic",
    )


def segformer_stage(width: int, heads: int, reduced: bool) -> float:
    """The stream, a block; where keys are reduced, a convolution's output."""
    inside = attention(heads, width // heads) + f(2 * width)
    return f(width) + inside + (f(width) if reduced else 0)


SEGFORMER = {
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "sr_ratios": [2, 1],
    "hidden_sizes": [12, 24],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "num_attention_heads": [2, 3],
    "mlp_ratios": [2, 2],
    "decoder_hidden_size": 14,
    "num_labels": 5,
}


@architecture(images(32), segformer_stage(12, 2, True) + segformer_stage(24, 3, False) + 3 * f(14))
def segformer() -> nn.Module:
    """The decoder projects both stages, joins them, and fuses."""
    config = transformers.SegformerConfig(**SEGFORMER)
    return transformers.SegformerForSemanticSegmentation(config)


@architecture(images(32), f(12, 24) + f(2 * 12, 2 * 24), inert=("before_norm.bias",))
def poolformer() -> nn.Module:
    config = transformers.PoolFormerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        hidden_sizes=[12, 24],
        patch_sizes=[7, 3],
        strides=[4, 2],
        padding=[2, 1],
        mlp_ratio=2.0,
        num_labels=5,
    )
    return transformers.PoolFormerForImageClassification(config)


def detr_like(position_embedding_type: str) -> nn.Module:
    backbone = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[12, 20],
        depths=[1, 1],
        layer_type="basic",
        out_features=["stage2"],
    )
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        num_queries=6,
        d_model=D,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=MLP,
        decoder_ffn_dim=MLP,
        position_embedding_type=position_embedding_type,
        num_labels=5,
    )
    return Outputs(transformers.DetrForObjectDetection(config), "logits", "pred_boxes")


DETR = BACKBONE + f(D) + ENCODER + LAYERS * (2 * attention() + f(MLP)) + 2 * f(D)
"""Queries begin at zero, which is no reason for the columns of the first projection to values to be
free, though they do not matter."""

FIRST = tuple(
    f"decoder.layers.0.self_attn.{p}_proj.{kind}" for p in "qkv" for kind in ("weight", "bias")
)
"""All its values are its bias: how they are weighted makes no difference."""


@architecture(images(32), DETR, inert=FIRST[:5])
def detr() -> nn.Module:
    """Sines added to the encoder's stream pin it; the decoder's moves, and the box head inside."""
    return detr_like("sine")


@architecture(images(32), DETR + 2 * f(D // 2), inert=FIRST[:5])
def detr_with_learned_positions() -> nn.Module:
    """Half of the encoder's features tell rows, the other half columns."""
    return detr_like("learned")


def images_and_text(batch: int) -> dict[str, Tensor]:
    ids = tokens(batch)["input_ids"].clone()
    ids[:, -2] = VOCABULARY - 1  # the end of the text, where it is read
    return {**images()(batch), "input_ids": ids}


TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 20,
    "intermediate_size": 28,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 5,
    "max_position_embeddings": 32,
    "projection_dim": 18,
    "projection_size": D,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": VOCABULARY - 1,
}
SIGHT = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": D,
    "intermediate_size": MLP,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "projection_dim": 18,
}
TEXT_ENCODER = LAYERS * (attention(5, 4) + f(28))


@architecture(images_and_text, f(20, D) + f(18) + TEXT_ENCODER + ENCODER)
def clip() -> nn.Module:
    """Two towers, and the space that both are projected to."""
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=SIGHT, projection_dim=18)
    return Outputs(transformers.CLIPModel(config), "logits_per_image")


@architecture(images_and_text, f(20, D) + TEXT_ENCODER + ENCODER + attention() + f(MLP) + 2 * f(D))
def siglip() -> nn.Module:
    """Patches are pooled by attention from a probe, whose features are nobody else's.

    What comes out of the pooling is compared with the text's projection.
    """
    config = transformers.SiglipConfig(text_config=TEXT, vision_config=SIGHT)
    return Outputs(transformers.SiglipModel(config), "logits_per_image")
