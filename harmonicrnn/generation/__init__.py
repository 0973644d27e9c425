"""Sampling from a model with carried state: engines, sampler, prompts, clip files and fault detectors."""

from harmonicrnn.generation.engine import Engine, PlainEngine, make_engine
from harmonicrnn.generation.sampler import generate

__all__ = ["Engine", "PlainEngine", "generate", "make_engine"]
