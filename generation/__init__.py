"""Sampling from a model with carried state."""

from generation.engine import Engine, PlainEngine
from generation.fastest import make_engine
from generation.sampler import generate

__all__ = ["Engine", "PlainEngine", "generate", "make_engine"]
