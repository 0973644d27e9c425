"""Training: loss, optimiser, logging and checkpoints around a model."""

from lightning_modules.checkpoints import FORMAT, read_checkpoint
from lightning_modules.harmonic import HarmonicModule
from lightning_modules.optimizer import OptimizerConfig

__all__ = ["FORMAT", "HarmonicModule", "OptimizerConfig", "read_checkpoint"]
