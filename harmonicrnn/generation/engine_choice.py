"""The fastest engine that there is for a model."""

from harmonicrnn.generation.engine import Engine, PlainEngine, knows_layers
from harmonicrnn.generation.graph_engine import GraphEngine
from harmonicrnn.models import AutoregressiveNet


def make_engine(net: AutoregressiveNet) -> Engine:
    """Compiled code for models on the CPU, graphs on a GPU, the plain one elsewhere and for models whose layers those do not know."""
    device = next(net.parameters()).device.type
    if not knows_layers(net):
        return PlainEngine(net)
    if device == "cpu":
        from harmonicrnn.generation.cpu import CPUEngine  # here, so that numba is loaded only where it computes

        return CPUEngine(net)
    return GraphEngine(net) if device == "cuda" else PlainEngine(net)
