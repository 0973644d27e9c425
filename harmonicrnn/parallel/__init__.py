"""Context parallelism: the time axis of a waveform is split into contiguous slices, one per rank of a context group."""

from harmonicrnn.parallel.exchange import ContextGroup, Transport
from harmonicrnn.parallel.strategy import ContextParallelStrategy, context_size
from harmonicrnn.parallel.transports import ProcessGroup, simulated_groups

__all__ = ["ContextGroup", "ContextParallelStrategy", "ProcessGroup", "Transport", "context_size", "simulated_groups"]
