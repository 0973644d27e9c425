"""One waveform over many devices: the time axis split into contiguous slices, one for each rank of a context group."""

from harmonicrnn.parallel.exchange import ContextGroup, Transport
from harmonicrnn.parallel.process_group import ProcessGroup
from harmonicrnn.parallel.simulated_group import simulated_groups
from harmonicrnn.parallel.strategy import ContextParallelStrategy, context_size

__all__ = ["ContextGroup", "ContextParallelStrategy", "ProcessGroup", "Transport", "context_size", "simulated_groups"]
