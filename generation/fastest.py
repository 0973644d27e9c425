"""The fastest engine that there is for a model."""

from generation.engine import Engine, PlainEngine
from generation.gpu import GraphEngine
from models import HarmonicRNN


def make_engine(net: HarmonicRNN) -> Engine:
    """Compiled code for models on the CPU, graphs on a GPU, the plain one elsewhere."""
    device = net.head.weight.device.type
    if device == "cpu":
        from generation.cpu import CPUEngine  # here, so that numba is loaded only where it computes

        return CPUEngine(net)
    return GraphEngine(net) if device == "cuda" else PlainEngine(net)
