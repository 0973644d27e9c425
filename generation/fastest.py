"""The fastest engine that there is for a model."""

from generation.engine import Engine, PlainEngine
from models import HarmonicRNN


def make_engine(net: HarmonicRNN) -> Engine:
    """Compiled code for models on the CPU, the plain one for others."""
    if net.head.weight.device.type != "cpu":
        return PlainEngine(net)
    from generation.cpu import CPUEngine  # here, so that numba is loaded only where it computes

    return CPUEngine(net)
