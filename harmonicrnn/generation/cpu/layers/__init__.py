"""The layers of the CPU engine: for each kind its packed weights, compiled step and part of the model's state."""

from collections.abc import Callable
from typing import Any

from torch import nn

from harmonicrnn.generation.cpu.layers.causal_conv import ConvStep
from harmonicrnn.generation.cpu.layers.embedding_step import EmbeddingStep
from harmonicrnn.generation.cpu.layers.gated_recurrence import OwnUnits, RecurrenceStep
from harmonicrnn.generation.cpu.layers.gelu_gate import GateStep
from harmonicrnn.generation.cpu.layers.harmonic_rnn_steps import compile_harmonic_rnn
from harmonicrnn.generation.cpu.layers.linear import ProductStep
from harmonicrnn.generation.cpu.layers.norm import NormStep
from harmonicrnn.generation.cpu.layers.pooling_steps import DownStep, EnterStep, LevelEnd, MergeStep, UpStep, compile_skip_block
from harmonicrnn.generation.cpu.layers.prediction_steps import FeatureStep, MixtureStep, PredictionStep, SteeringStep
from harmonicrnn.generation.cpu.layers.residual_block import (
    compile_linear,
    compile_residual_block,
    compile_residual_branch,
    compile_stack,
    compile_temporal_mixer,
)
from harmonicrnn.generation.cpu.layers.team_sum import LogitsStep, SumStep
from harmonicrnn.generation.cpu.operation import Operation
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

KINDS: tuple[type[Operation], ...] = (
    ProductStep, NormStep, GateStep, SumStep, RecurrenceStep, ConvStep, EnterStep, MergeStep, DownStep, UpStep, LevelEnd, EmbeddingStep,
    LogitsStep, PredictionStep, FeatureStep, SteeringStep, MixtureStep,
)  # fmt: skip
"""All operations, the most frequent first."""
