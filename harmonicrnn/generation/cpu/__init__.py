"""The CPU engine: a model's layers in compiled code, stepping with carried state."""

from harmonicrnn.generation.cpu.cpu_engine import CPUEngine

__all__ = ["CPUEngine"]
