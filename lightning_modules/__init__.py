"""LightningModules: training of models with loss, optimiser, logging and checkpoints."""

import torch

from harmonicrnn.checkpoints import read_checkpoint
from lightning_modules.autoregressive_module import AutoregressiveModule
from lightning_modules.baseline_modules import CountsModule, WaveNetModule
from lightning_modules.digit_module import DigitModule
from lightning_modules.harmonic_module import HarmonicModule
from lightning_modules.loading import load_module, load_voice
from lightning_modules.optimizer import OptimizerConfig

# Checkpoints are loaded with weights_only; modules built in Python have this record among their hyperparameters.
torch.serialization.add_safe_globals([OptimizerConfig])

__all__ = [
    "AutoregressiveModule",
    "CountsModule",
    "DigitModule",
    "HarmonicModule",
    "OptimizerConfig",
    "WaveNetModule",
    "load_module",
    "load_voice",
    "read_checkpoint",
]
