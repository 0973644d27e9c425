"""The fastest engine that there is for a model."""

from generation.engine import Engine, PlainEngine
from models import AutoregressiveNet


def make_engine(net: AutoregressiveNet) -> Engine:
    """Compiled code for models on the CPU that there is code for, the plain one for others."""
    if next(net.parameters()).device.type != "cpu":
        return PlainEngine(net)
    from generation.cpu import CPUEngine, is_compiled  # here, so that numba is loaded only where it computes

    return CPUEngine(net) if is_compiled(net) else PlainEngine(net)
