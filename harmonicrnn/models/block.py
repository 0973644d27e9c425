"""The residual block: a temporal mixer and an MLP, each in a gated residual branch.

    branch: u = norm(x);  x + dropout(W_out (layer(u) * GELU(W_gate u)))
    mixer:  layer(u) = P recurrence(conv(W u)), W from D to R channels, P back to D; the convolution and P are optional
    MLP:    layer(u) = W u, from D to E D channels

GELU is the tanh approximation. Source: github.com/daniel-gallo/ssm; without P and with a convolution it is Griffin's (arXiv 2402.19427).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harmonicrnn.models.conv import CausalConv, ConvState
from harmonicrnn.models.diagonal import DiagonalRecurrence
from harmonicrnn.models.dropout import Dropout, at_place
from harmonicrnn.models.gru import GRURecurrence
from harmonicrnn.models.initialisation import linear
from harmonicrnn.models.presets import Architecture, Norm
from harmonicrnn.models.recurrence import GatedRecurrence
from harmonicrnn.models.state import State
from harmonicrnn.ops import Implementation

EPSILON = 1e-6
Halo = Callable[[Tensor], Tensor]
Layer = TypeVar("Layer", bound=nn.Module)


class RMSNorm(nn.RMSNorm):
    """RMSNorm in the dtype of its input; under autocast torch's mixes dtypes, warns and is slow."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class LayerNorm(nn.LayerNorm):
    """LayerNorm in the dtype of its input, under autocast too."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def make_norm(kind: Norm, width: int) -> LayerNorm | RMSNorm:
    """Returns a norm over channels with epsilon 1e-6."""
    return LayerNorm(width) if kind == "layer" else RMSNorm(width)


@dataclass(frozen=True)
class BlockState(State):
    """The states of a block's layers that mix time; None for a missing layer."""

    conv: ConvState | None
    recurrence: State | None

    @property
    def fresh(self) -> Tensor:
        return (self.conv or self.recurrence).fresh  # type: ignore[union-attr]


@dataclass(frozen=True)
class BlockPlace:
    """The position of a block in the model.

    width: D.
    output_variance: initial variance of its output projections, times their fan-in.
    pooled: samples per step.
    """

    width: int
    output_variance: float
    pooled: int = 1


class TemporalMixer(nn.Module):
    """P recurrence(conv(W u)), (B, T, D) -> (B, T, D), or (B, T, R) without P."""

    def __init__(self, place: BlockPlace, parts: Architecture, scan: Implementation) -> None:
        super().__init__()
        width = parts.recurrence_expansion * place.width
        self.input = linear(place.width, width, parts.init)
        self.conv = CausalConv(width, parts.conv_width) if parts.conv_width else None
        self.recurrence = make_recurrence(width, place.pooled, parts, scan)
        self.projection = linear(width, place.width, parts.init) if parts.recurrence_projection else None
        self.width = place.width if parts.recurrence_projection else width

    def begin(self, u: Tensor) -> Halo | None:
        """Starts sending the end of u to the next slice's rank; pass the result to `forward`."""
        return self.conv.begin_halo(self.input, u) if self.conv else None

    def forward(self, u: Tensor, state: BlockState | None = None, halo: Halo | None = None) -> tuple[Tensor, BlockState]:
        """u (B, T, D) to output (B, T, width); `halo` is the result of `begin`."""
        x, conv_state, recurrence_state = self.input(u), None, None
        if self.conv is not None:
            x, conv_state = self.conv(x, state.conv if state else None, halo)
        if self.recurrence is not None:
            x, recurrence_state = self.recurrence(x, state.recurrence if state else None)
        return x if self.projection is None else self.projection(x), BlockState(conv_state, recurrence_state)


def make_recurrence(width: int, pooled: int, parts: Architecture, scan: Implementation) -> nn.Module | None:
    """Returns a layer `forward(x, state=None) -> (y, state)` with R = width channels; None without a recurrence."""
    if parts.recurrence == "none":
        return None
    if parts.recurrence == "lti":
        return DiagonalRecurrence(width, scan)
    if parts.recurrence == "gru":
        return GRURecurrence(width)
    return GatedRecurrence(width, parts, parts.recurrence, pooled, scan)


class ResidualBranch(nn.Module, Generic[Layer]):
    """x + dropout(W_out (layer(norm(x)) * GELU(W_gate norm(x)))).

    Args:
        place: position in the model.
        parts: the architecture.
        layer: constructs the layer.
        inner: channels of the layer's output.
    """

    def __init__(self, place: BlockPlace, parts: Architecture, layer: Callable[[], Layer], inner: int) -> None:
        super().__init__()
        self.norm = make_norm(parts.norm, place.width)
        self.gate = linear(place.width, inner, parts.init)
        self.layer = layer()
        self.output = linear(inner, place.width, parts.init, place.output_variance)
        self.dropout = Dropout(parts.dropout, place.pooled)

    def forward(self, x: Tensor, *state: Any) -> Any:
        """x (B, T, D) to y (B, T, D), with the layer's state if it has one."""
        u, layer = self.norm(x), self.layer
        halo = layer.begin(u) if isinstance(layer, TemporalMixer) else None
        gate = F.gelu(self.gate(u), approximate="tanh")
        if not isinstance(layer, TemporalMixer):
            return x + self.dropout(self.output(gate * layer(u)))
        mixed, after = layer(u, *state, halo)
        return x + self.dropout(self.output(gate * mixed)), after


class ResidualBlock(nn.Module):
    """A branch with a temporal mixer, then one with an MLP: (B, T, D) -> (B, T, D).

    Args:
        place: position in the model.
        parts: the architecture.
        scan: implementation of the recurrence; see `harmonicrnn/ops/implementation.py`.
    """

    def __init__(self, place: BlockPlace, parts: Architecture, scan: Implementation = "auto") -> None:
        super().__init__()
        width, hidden = place.width, parts.expansion * place.width
        mixed = width if parts.recurrence_projection else parts.recurrence_expansion * width
        self.mixer = ResidualBranch(place, parts, lambda: TemporalMixer(place, parts, scan), mixed)
        self.mlp = ResidualBranch(place, parts, lambda: linear(width, hidden, parts.init), hidden)

    def forward(self, x: Tensor, state: BlockState | None = None) -> tuple[Tensor, BlockState]:
        """x (B, T, D) to y (B, T, D)."""
        x, after = self.mixer(x, state)
        return self.mlp(x), after


@dataclass(frozen=True)
class StackState(State):
    """The states of a stack's blocks."""

    blocks: tuple[State, ...]

    @property
    def fresh(self) -> Tensor:
        return self.blocks[0].fresh  # type: ignore[attr-defined]


class Stack(nn.Module):
    """A sequence of blocks, each `forward(x, state=None) -> (y, state)`; with `recompute` training keeps only their inputs."""

    def __init__(self, blocks: list[nn.Module], recompute: bool = False) -> None:
        super().__init__()
        self.blocks, self.recompute = nn.ModuleList(blocks), recompute

    def forward(self, x: Tensor, state: StackState | None = None) -> tuple[Tensor, StackState]:
        """x (B, T, D) to y (B, T, D)."""
        states = []
        for i, block in enumerate(self.blocks):
            block_input = x, state.blocks[i] if state else None
            if self.recompute and torch.is_grad_enabled():
                x, block_state = checkpoint(_as_now(block), *block_input, use_reentrant=False, preserve_rng_state=False)
            else:
                x, block_state = block(*block_input)
            states.append(block_state)
        return x, StackState(tuple(states))


def _as_now(block: nn.Module) -> Callable[..., Any]:
    """Returns the block bound to the current dropout masks, for recomputation; while tracing, the block itself."""
    if torch.compiler.is_compiling():
        return block
    place = next((layer.place for layer in block.modules() if isinstance(layer, Dropout)), None)

    def forward(*inputs: Any) -> Any:
        with at_place(block, place):
            return block(*inputs)

    return forward
