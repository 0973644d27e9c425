"""A model with the weights of its products in fewer bits: what the CPU engine computes with, computed by the forward pass."""

import copy

from torch import Tensor, nn

from harmonicrnn.models import DownPool, GatedRecurrence, HarmonicRNN, ResidualBlock, UpPool

MIN_INT8 = 64  # inputs below which the engine keeps weights in bfloat16 instead


def as_stored(net: HarmonicRNN, stored: str) -> HarmonicRNN:
    """The model with its weights as the engine stores them: "full", "bfloat16" or "int8"."""
    net = copy.deepcopy(net)
    if stored == "full":
        return net
    _join(net.head_norm, net.head)
    for module in net.modules():
        if isinstance(module, ResidualBlock):
            _join(module.mixer_norm, module.input, module.gate)
            _join(module.mlp_norm, module.mlp.gate, module.mlp.input)
    for module in net.modules():
        if isinstance(module, nn.Linear) and module is not net.embedding.projection:
            module.weight.data = rounded(module.weight.data.T, stored).T
        elif isinstance(module, DownPool | UpPool):
            module.weight.data = rounded(module.weight.data, stored)
        elif isinstance(module, GatedRecurrence):
            module.gate_weight.data = rounded(module.gate_weight.data, stored)
    return net


def _join(norm: nn.RMSNorm, *layers: nn.Linear) -> None:
    """A norm's weights into those of the layers behind it: what the engine rounds is the product of both."""
    for layer in layers:
        layer.weight.data = layer.weight.data * norm.weight.data
    nn.init.ones_(norm.weight)


def rounded(weights: Tensor, stored: str) -> Tensor:
    """Matrices (..., inputs, outputs); int8 with a scale for each output."""
    if stored == "bfloat16" or weights.shape[-2] < MIN_INT8:
        return weights.bfloat16().float()
    scale = weights.abs().amax(dim=-2, keepdim=True) / 127
    return (weights / scale).round() * scale
