"""Training: loss, optimiser, logging and checkpoints around a model."""

import torch

from lightning_modules.autoregressive import AutoregressiveModule
from lightning_modules.baselines import CountsModule, WaveNetModule
from lightning_modules.checkpoints import FORMAT, read_checkpoint
from lightning_modules.digit_classifier import DigitClassifier, load_digit_classifier
from lightning_modules.digits import DigitModule
from lightning_modules.harmonic import HarmonicModule
from lightning_modules.loading import load_module
from lightning_modules.optimizer import OptimizerConfig
from models import LevelSpec

# Checkpoints are loaded without running code; these two are plain records that a module built by hand keeps among its hyperparameters.
torch.serialization.add_safe_globals([OptimizerConfig, LevelSpec])

__all__ = [
    "FORMAT",
    "AutoregressiveModule",
    "CountsModule",
    "DigitClassifier",
    "DigitModule",
    "HarmonicModule",
    "OptimizerConfig",
    "WaveNetModule",
    "load_digit_classifier",
    "load_module",
    "read_checkpoint",
]
