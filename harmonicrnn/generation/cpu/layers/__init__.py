"""The layers of the CPU engine: for each kind its packed weights, compiled step and part of the model's state."""

from collections.abc import Callable
from typing import Any

from torch import nn

from harmonicrnn.generation.cpu.layers.gated_recurrence import OwnUnits
from harmonicrnn.generation.cpu.layers.harmonic_rnn_steps import compile_harmonic_rnn
from harmonicrnn.generation.cpu.layers.pooling_steps import compile_skip_block
from harmonicrnn.generation.cpu.layers.residual_block import (
    compile_linear,
    compile_residual_block,
    compile_residual_branch,
    compile_stack,
    compile_temporal_mixer,
)
from harmonicrnn.models import GatedRecurrence, HarmonicRNN, ResidualBlock, SkipBlock
from harmonicrnn.models.block import ResidualBranch, Stack, TemporalMixer

LAYERS: dict[type[nn.Module], Callable[..., Any]] = {
    HarmonicRNN: compile_harmonic_rnn,
    SkipBlock: compile_skip_block,
    Stack: compile_stack,
    ResidualBlock: compile_residual_block,
    ResidualBranch: compile_residual_branch,
    TemporalMixer: compile_temporal_mixer,
    GatedRecurrence: OwnUnits,
    nn.Linear: compile_linear,
}
"""The compile function of each kind of module, see `Program`."""
