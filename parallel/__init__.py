"""One waveform over many devices: the time axis split into contiguous slices, one for each rank of a context group."""

from parallel.exchange import ContextGroup, Transport
from parallel.first_rank import on_first_rank
from parallel.process_group import ProcessGroup
from parallel.simulated import simulated_groups
from parallel.strategy import ContextParallelStrategy, context_size

__all__ = ["ContextGroup", "ContextParallelStrategy", "ProcessGroup", "Transport", "context_size", "on_first_rank", "simulated_groups"]
