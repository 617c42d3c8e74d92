"""The attributes of torch's modules that say how long axes of their weights are.

>>> layer = nn.Conv2d(6, 4, 3, groups=2)
>>> layer.weight = nn.Parameter(layer.weight[:, :2])
>>> adapt_module(layer, (1, 4, 8, 8), (1, 4, 6, 6))
>>> layer
Conv2d(4, 4, kernel_size=(3, 3), stride=(1, 1), groups=2)
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

Shape = tuple[int, ...]


def adapt_module(module: nn.Module, given: Shape | None, returned: Shape | None) -> None:
    """Set the attributes of a module whose weights have become smaller, in place.

    Args:
        module: of any type; those that are not known here are left as they are.
        given, returned: the shapes that its input and its result will have; None if not known.
    """
    if isinstance(module, _ConvNd):
        _adapt_convolution(module, given, returned)
    elif isinstance(module, nn.GroupNorm):
        if given is not None and given[1] != module.num_channels:
            module.num_groups = groups_after(module.num_groups, module.num_channels, given[1])
            module.num_channels = given[1]
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        if given is not None:
            module.normalized_shape = tuple(given[len(given) - len(module.normalized_shape) :])
    elif isinstance(module, _NormBase):
        held = module.weight if module.weight is not None else module.running_mean
        if held is not None:
            module.num_features = len(held)
    else:
        _adapt_by_weights(module)


def groups_after(groups: int, before: int, now: int) -> int:
    """How many groups of channels are left, where whole ones were lost.

    >>> groups_after(4, 32, 24), groups_after(1, 32, 24)
    (3, 1)
    """
    left, rest = divmod(groups * now, before)
    return groups if rest else left


def _adapt_convolution(module: _ConvNd, given: Shape | None, returned: Shape | None) -> None:
    is_transposed = isinstance(module, _ConvTransposeNd)
    channels = returned if is_transposed else given
    if module.groups > 1 and channels is not None:
        axis = len(channels) - module.weight.ndim + 1
        module.groups = channels[axis] // module.weight.shape[1]
    first, second = module.weight.shape[0], module.weight.shape[1] * module.groups
    module.in_channels, module.out_channels = (first, second) if is_transposed else (second, first)


def _adapt_by_weights(module: nn.Module) -> None:
    weights: dict[str, Any] = dict(module.named_parameters(recurse=False))
    shape = tuple(weights["weight"].shape) if weights.get("weight") is not None else ()
    if isinstance(module, nn.Linear) and len(shape) == 2:
        module.out_features, module.in_features = shape
    elif isinstance(module, nn.Bilinear):
        module.out_features, module.in1_features, module.in2_features = shape
    elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and shape:
        module.embedding_dim = shape[1]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = shape[0]
    elif isinstance(module, nn.RNNBase):
        module.input_size = weights["weight_ih_l0"].shape[1]
        if module.proj_size:
            module.proj_size = weights["weight_hr_l0"].shape[0]
            module.hidden_size = weights["weight_hr_l0"].shape[1]
        else:
            module.hidden_size = weights["weight_hh_l0"].shape[1]
    elif isinstance(module, nn.RNNCellBase):
        module.input_size = weights["weight_ih"].shape[1]
        module.hidden_size = weights["weight_hh"].shape[1]
    elif isinstance(module, nn.MultiheadAttention) and not module._qkv_same_embed_dim:
        module.kdim = weights["k_proj_weight"].shape[1]
        module.vdim = weights["v_proj_weight"].shape[1]
