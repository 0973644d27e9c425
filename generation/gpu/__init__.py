"""The engine for GPUs: whole pooling periods as one graph."""

from generation.gpu.engine import GraphEngine

__all__ = ["GraphEngine"]
