"""A model with the weights of its products in fewer bits: what the CPU engine computes with, computed by the forward pass."""

import copy

import torch
from torch import Tensor, nn

from harmonicrnn.models import DownPool, GatedRecurrence, HarmonicRNN, UpPool
from harmonicrnn.models.block import ResidualBranch, TemporalMixer

MIN_INT8 = 64  # inputs below which the engine keeps weights in bfloat16 instead


@torch.no_grad()
def as_stored(net: HarmonicRNN, stored: str) -> HarmonicRNN:
    """The model with its weights as the engine stores them: "full", "bfloat16" or "int8"."""
    net = copy.deepcopy(net)
    if stored == "full":
        return net
    _join(net.head_norm, *filter(None, (net.head, net.steering)))
    kept = {net.embedding.projection, *(net.features.modules() if net.features else ())}  # tables, as the engine has them
    for module in net.modules():
        if isinstance(module, ResidualBranch):
            _join(module.norm, module.gate, module.layer.input if isinstance(module.layer, TemporalMixer) else module.layer)
    for module in net.modules():
        if isinstance(module, nn.Linear) and module not in kept:
            module.weight.copy_(rounded(module.weight.T, stored).T)
        elif isinstance(module, DownPool | UpPool) and 1 not in module.weight.shape[1:]:  # those of single channels are kept whole
            module.weight.copy_(rounded(module.weight, stored))
        elif isinstance(module, GatedRecurrence):
            module.gate_weight.copy_(rounded(module.gate_weight, stored))
    return net


def _join(norm: nn.Module, *layers: nn.Linear) -> None:
    """A norm's weights and biases into the layers behind it: what the engine rounds is the product of both weights."""
    for layer in layers:
        if isinstance(norm, nn.LayerNorm):
            layer.bias += layer.weight @ norm.bias
        layer.weight *= norm.weight
    nn.init.ones_(norm.weight)
    if isinstance(norm, nn.LayerNorm):
        nn.init.zeros_(norm.bias)


def rounded(weights: Tensor, stored: str) -> Tensor:
    """Matrices (..., inputs, outputs); int8 with a scale for each output."""
    if stored == "bfloat16" or weights.shape[-2] < MIN_INT8:
        return weights.bfloat16().float()
    scale = weights.abs().amax(dim=-2, keepdim=True) / 127
    return (weights / scale).round() * scale
