"""Sampling from a model with carried state."""

from generation.sampler import generate

__all__ = ["generate"]
