"""The engine for GPUs: whole pooling periods as one graph."""

from harmonicrnn.generation.gpu.graph_engine import GraphEngine

__all__ = ["GraphEngine"]
