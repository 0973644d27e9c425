"""The engine for the CPU: a model's layers in compiled code, over its carried state."""

from generation.cpu.engine import CPUEngine

__all__ = ["CPUEngine"]
