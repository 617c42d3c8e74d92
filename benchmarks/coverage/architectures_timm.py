"""One architecture per family of timm, in a small variant, without weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_NAMES = """
bat_resnext26ts beit_base_patch16_224 botnet26t_256 caformer_s18 cait_xxs24_224 coat_lite_tiny
coatnet_nano_rw_224 convit_tiny convmixer_768_32 convnext_atto convnextv2_atto cpubone_b0_bfrobust
crossvit_9_240 cs3darknet_s csatv2 cspnext_tiny cspresnet50 davit_tiny
deit_tiny_distilled_patch16_224 densenet121 dla46_c dpn48b ecaresnet26t edgenext_xx_small
efficientformer_l1 efficientformerv2_s0 efficientnet_b0 efficientvim_m1 efficientvit_b0
efficientvit_m0 ese_vovnet19b_slim_dw eva02_tiny_patch14_224 fasternet_t0 fastvit_t8
focalnet_tiny_srf gcresnet33ts gcvit_xxtiny gernet_s ghostnet_050 gmixer_12_224 gmlp_ti16_224
halonet26t hardcorenas_a hgnet_tiny hgnetv2_b0 hiera_tiny_224 hrnet_w18_small iformer_t
inception_next_atto inception_resnet_v2 inception_v4 lambda_resnet26t lcnet_035 lcnetv2_small
legacy_seresnet18 legacy_xception levit_128s lowformer_b0 mambaout_femto mixer_s32_224
mobilenetv3_small_050 mobilenetv4_conv_small mobilenetv4_hybrid_medium mobileone_s0
mobilevit_xxs mobilevitv2_050 mvitv2_tiny naflexvit_base_patch16_gap nest_tiny nextvit_small
nf_regnet_b0 nfnet_l0 pit_ti_224 pnasnet5large poolformer_s12 pvt_v2_b0 qwen3_vit_88m rdnet_tiny
regnetx_002 regnety_002 repghostnet_050 repvgg_a0 repvit_m0_9 res2net50_14w_8s resmlp_12_224
resnest14d resnetblur50 resnetv2_18 rexnet_100 sam2_hiera_tiny samvit_base_patch16_224 selecsls42
sequencer2d_s shvit_s1 skresnet18 starnet_s1 swiftformer_xs swin_tiny_patch4_window7_224
swinv2_cr_tiny_224 swinv2_tiny_window8_256 tiny_vit_5m_224 tinynet_e tnt_s_patch16_224 tresnet_m
twins_pcpvt_small twins_svt_small vgg11 visformer_tiny vit_base_patch16_siglip_224
vit_relpos_small_patch16_224 vit_small_patch16_dinov3 vit_tiny_patch16_224
vit_tiny_r_s16_p8_224 vitamin_small_224 volo_d1_224 xception41 xcit_nano_12_p16_224
"""


def timm_names() -> list[str]:
    return _NAMES.split()


def build_timm(name: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """An untrained classifier and one random image of the size it is meant for.

    Of a model that comes without a head the features are outputs, and stay where they are: it gets
    one, so that they can move.
    """
    import timm

    model = timm.create_model(name, pretrained=False)
    if model.num_classes == 0:
        model = timm.create_model(name, pretrained=False, num_classes=10)
    pretrained: Any = model.pretrained_cfg
    return model, (torch.randn(1, *pretrained["input_size"]),), {}
