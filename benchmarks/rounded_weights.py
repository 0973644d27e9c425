"""A model with the weights of its products in fewer bits: what the CPU engine computes with, computed by the forward pass."""

import copy

from torch import Tensor, nn

from models import DownPool, GatedRecurrence, HarmonicRNN, UpPool

MIN_INT8 = 64  # inputs below which the engine keeps weights in bfloat16 instead


def as_stored(net: HarmonicRNN, stored: str) -> HarmonicRNN:
    """The model with its weights as the engine stores them: "full", "bfloat16" or "int8"."""
    net = copy.deepcopy(net)
    if stored == "full":
        return net
    for module in net.modules():
        if isinstance(module, nn.Linear) and module is not net.embedding.projection:
            module.weight.data = rounded(module.weight.data.T, stored).T
        elif isinstance(module, DownPool | UpPool):
            module.weight.data = rounded(module.weight.data, stored)
        elif isinstance(module, GatedRecurrence):
            module.gate_weight.data = rounded(module.gate_weight.data, stored)
    return net


def rounded(weights: Tensor, stored: str) -> Tensor:
    """Matrices (..., inputs, outputs); int8 with a scale for each output."""
    if stored == "bfloat16" or weights.shape[-2] < MIN_INT8:
        return weights.bfloat16().float()
    scale = weights.abs().amax(dim=-2, keepdim=True) / 127
    return (weights / scale).round() * scale
