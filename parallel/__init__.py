"""One waveform over many devices: the time axis split into contiguous slices, one for each rank of a context group."""

from parallel.exchange import ContextGroup, Transport
from parallel.process_group import ProcessGroup
from parallel.simulated import simulated_groups

__all__ = ["ContextGroup", "ProcessGroup", "Transport", "simulated_groups"]
