"""The engine for the CPU: a model's layers in compiled code, over its carried state."""

from harmonicrnn.generation.cpu.cpu_engine import CPUEngine

__all__ = ["CPUEngine"]
