"""The residual block: a temporal mixer and a gated MLP, each behind a norm and around a residual path (Griffin, section 2.3)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harmonicrnn.models.conv import CausalConv, ConvState
from harmonicrnn.models.diagonal import DiagonalRecurrence
from harmonicrnn.models.gru import GRURecurrence
from harmonicrnn.models.recurrence import GatedRecurrence
from harmonicrnn.models.state import State
from harmonicrnn.ops import Implementation, gated_gelu, gated_mlp, residual_norm

Recurrence = Literal["complex", "real", "none", "lti", "gru"]


def make_recurrence(kind: Recurrence, width: int, heads: int, scan: Implementation) -> nn.Module | None:
    """A layer that is `forward(x, state=None) -> (y, state)`; None for none."""
    if kind == "none":
        return None
    if kind == "lti":
        return DiagonalRecurrence(width, scan)
    if kind == "gru":
        return GRURecurrence(width)
    return GatedRecurrence(width, heads, kind, scan)


@dataclass(frozen=True)
class BlockState(State):
    """The states of a block's two layers that mix time; no recurrence state where the block has none."""

    conv: ConvState
    recurrence: State | None

    @property
    def fresh(self) -> Tensor:
        return self.conv.fresh


def linear(inputs: int, outputs: int, variance: float = 1.0) -> nn.Linear:
    """A linear layer with weights of variance `variance` / inputs and bias 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=(variance / inputs) ** 0.5)
    nn.init.zeros_(layer.bias)
    return layer


class RMSNorm(nn.RMSNorm):
    """RMSNorm in the dtype of its input: under autocast torch's own mixes dtypes, warns and takes a slow path."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class GatedMLP(nn.Module):
    """y = W_out (GELU(W_gate x) * W_in x), point-wise in time; added to a residual where there is one."""

    def __init__(self, width: int, expansion: int, output_variance: float, scan: Implementation = "auto") -> None:
        super().__init__()
        self.scan: Implementation = scan
        self.gate = linear(width, expansion * width)
        self.input = linear(width, expansion * width)
        self.output = linear(expansion * width, width, output_variance)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return gated_mlp(x, self.gate, self.input, self.output, self.scan, residual)


class ResidualBlock(nn.Module):
    """x + mixer(norm(x)), then x + MLP(norm(x)).

    Args:
        width: D.
        blocks: number of residual blocks in the whole model; output projections start with variance 2 / blocks / fan_in.
        recurrence: "complex" (CG-LRU), "real" (RG-LRU), "none" (the convolution alone mixes time), "lti" (S4D) or "gru".
        heads: blocks of the recurrence's gates.
        conv_width: taps of the causal convolution.
        expansion: inner width of the MLP as a multiple of D.
        scan: how the recurrence and what surrounds it are computed; see `harmonicrnn/ops/implementation.py`.
    """

    def __init__(
        self,
        width: int,
        *,
        blocks: int,
        recurrence: Recurrence = "complex",
        heads: int = 8,
        conv_width: int = 4,
        expansion: int = 3,
        scan: Implementation = "auto",
    ) -> None:
        super().__init__()
        self.scan: Implementation = scan
        self.mixer_norm = RMSNorm(width)
        self.gate = linear(width, width)
        self.input = linear(width, width)
        self.conv = CausalConv(width, conv_width, scan)
        self.recurrence = make_recurrence(recurrence, width, heads, scan)
        self.output = linear(width, width, 2 / blocks)
        self.mlp_norm = RMSNorm(width)
        self.mlp = GatedMLP(width, expansion, 2 / blocks, scan)

    def forward(self, x: Tensor, state: BlockState | None = None) -> tuple[Tensor, BlockState]:
        """x and y (B, T, D)."""
        x, u = residual_norm(x, None, self.mixer_norm, self.scan)
        halo = self.conv.begin_halo(self.input, u)
        gate = self.gate(u)
        mixed, conv_state = self.conv(self.input(u), state.conv if state else None, halo)
        recurrence_state = None
        if self.recurrence is not None:
            mixed, recurrence_state = self.recurrence(mixed, state.recurrence if state else None)
        x, v = residual_norm(x, self.output(gated_gelu(gate, mixed, self.scan)), self.mlp_norm, self.scan)
        return self.mlp(v, x), BlockState(conv_state, recurrence_state)


@dataclass(frozen=True)
class StackState(State):
    """One state for each block of a stack."""

    blocks: tuple[State, ...]

    @property
    def fresh(self) -> Tensor:
        return self.blocks[0].fresh  # type: ignore[attr-defined]


class Stack(nn.Module):
    """Blocks one after the other, each of them `forward(x, state=None) -> (y, state)`; in training `recompute` keeps only their inputs."""

    def __init__(self, blocks: list[nn.Module], recompute: bool = False) -> None:
        super().__init__()
        self.blocks, self.recompute = nn.ModuleList(blocks), recompute

    def forward(self, x: Tensor, state: StackState | None = None) -> tuple[Tensor, StackState]:
        """x and y (B, T, D)."""
        states = []
        for i, block in enumerate(self.blocks):
            block_input = x, state.blocks[i] if state else None
            if self.recompute and torch.is_grad_enabled():
                x, block_state = checkpoint(block, *block_input, use_reentrant=False, preserve_rng_state=False)
            else:
                x, block_state = block(*block_input)
            states.append(block_state)
        return x, StackState(tuple(states))
