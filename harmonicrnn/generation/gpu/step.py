"""One sample through a model, as functions of its state, with the fewest kernels: products merged, norms and groups in their matrices.

The state is a tree of tensors whose shape depends on the phases of the pooling windows alone, so that after a whole period it is as before.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonicrnn.generation.gpu.fused import EPSILON, Fused
from harmonicrnn.models import HarmonicRNN, ResidualBlock, SkipBlock
from harmonicrnn.models.block import BlockState, Stack, StackState
from harmonicrnn.models.skip_block import SkipState
from harmonicrnn.ops.cg_lru import C


@dataclass(frozen=True)
class Lanes:
    """What B lanes remember in a block: the last inputs of the convolution, (B, D) each, and h (B, D)."""

    window: tuple[Tensor, ...]
    h: Tensor | None


@dataclass(frozen=True)
class Level:
    """What B lanes remember in a level: its blocks; where there are levels below, the open window, what is due, and theirs."""

    blocks: tuple[Lanes, ...]
    fresh: Tensor
    window: tuple[Tensor, ...] = ()
    pending: tuple[Tensor, ...] = ()
    inner: "Level | None" = None

    @classmethod
    def of(cls, state: StackState | SkipState) -> "Level":
        """That of a state as the forward pass gives it."""
        if isinstance(state, StackState):
            return cls(tuple(map(_lanes, state.blocks)), state.fresh)
        blocks = (*state.pre.blocks, *state.post.blocks)  # type: ignore[attr-defined]
        due = state.pending.shape[1] - state.phase
        window, pending = state.window[:, : state.phase].unbind(1), state.pending[:, :due].unbind(1)
        return cls(tuple(map(_lanes, blocks)), state.fresh, window, pending, cls.of(state.inner))  # type: ignore[arg-type]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Level":
        """The same with `function` applied to each tensor, always in the same order."""
        each = lambda tensors: tuple(map(function, tensors))  # noqa: E731
        blocks = tuple(Lanes(each(lanes.window), None if lanes.h is None else function(lanes.h)) for lanes in self.blocks)
        inner = None if self.inner is None else self.inner.map(function)
        return Level(blocks, function(self.fresh), each(self.window), each(self.pending), inner)

    @property
    def phases(self) -> tuple[int, ...]:
        """Steps into the open window of each level."""
        return (len(self.window), *(self.inner.phases if self.inner else ()))


def _lanes(state: BlockState) -> Lanes:
    return Lanes(state.conv.window.unbind(1), state.recurrence.h if state.recurrence else None)


class Step:
    """A model's step. It keeps its own copy of the weights."""

    def __init__(self, net: HarmonicRNN) -> None:
        fused = Fused.on(net.head.weight.device)
        self.embedding = net.embedding(torch.arange(net.classes, device=net.head.weight.device)).detach().clone()
        self.levels = _LevelStep(net.levels, fused)
        self.head, self.head_bias = _normed(net.head_norm, net.head)

    def __call__(self, last: Tensor, state: Level) -> tuple[Tensor, Level]:
        """Logits (B, q) of the sample after those of classes `last` (B,), and the state then."""
        x, state = self.levels(self.embedding[last], state)
        return torch.addmm(self.head_bias, _normalised(x), self.head), state


class _LevelStep:
    def __init__(self, module: nn.Module, fused: Fused) -> None:
        self.inner: _LevelStep | None = None
        if isinstance(module, Stack):
            self.blocks = [_BlockStep(block, fused) for block in module.blocks]  # type: ignore[arg-type]
            return
        assert isinstance(module, SkipBlock)
        self.blocks = [_BlockStep(block, fused) for block in (*module.pre.blocks, *module.post.blocks)]  # type: ignore[arg-type]
        self.factor, self.inner = module.factor, _LevelStep(module.inner, fused)
        down, up = module.down.weight.detach(), module.up.weight.detach()
        # The products of groups as one of all channels: inputs (p, G, D / G) of the first, outputs (p, G, D / G) of the second.
        p = module.factor
        groups, by_step = len(down), down.unflatten(1, (p, -1)).transpose(0, 1)
        self.down = torch.cat([torch.block_diag(*by_step[k]) for k in range(p)])
        self.down_bias = module.down.bias.detach().clone()
        each = up.unflatten(2, (p, -1))
        self.up = torch.cat([torch.block_diag(*(each[g, :, k] for g in range(groups))) for k in range(p)], dim=1)
        self.up_bias = module.up.bias.detach().repeat(p)

    def __call__(self, x: Tensor, state: Level) -> tuple[Tensor, Level]:
        begun = torch.zeros_like(state.fresh)
        if self.inner is None or state.inner is None:
            x, blocks = _through(self.blocks, x, state.blocks, state.fresh)
            return x, Level(blocks, begun)
        half = len(self.blocks) // 2
        x, pre = _through(self.blocks[:half], x, state.blocks[:half], state.fresh)
        window, pending, inner = (*state.window, x), state.pending, state.inner
        if len(window) == self.factor:
            y, inner = self.inner(torch.addmm(self.down_bias, torch.cat(window, dim=1), self.down), inner)
            window, pending = (), (*pending, *torch.addmm(self.up_bias, y, self.up).chunk(self.factor, dim=1))
        x, post = _through(self.blocks[half:], x + pending[0], state.blocks[half:], state.fresh)
        return x, Level((*pre, *post), begun, window, pending[1:], inner)


def _through(blocks: list["_BlockStep"], x: Tensor, states: tuple[Lanes, ...], fresh: Tensor) -> tuple[Tensor, tuple[Lanes, ...]]:
    after, u = [], _normalised(x)
    for block, state in zip(blocks, states, strict=True):
        x, u, state = block(x, u, state, fresh)
        after.append(state)
    return x, tuple(after)


class _BlockStep:
    """`harmonicrnn.models.block.ResidualBlock`, given x and x / rms(x)."""

    def __init__(self, module: ResidualBlock, fused: Fused) -> None:
        self.fused, recurrence = fused, module.recurrence
        self.inputs, self.inputs_bias = _side_by_side(module.mixer_norm, module.input, module.gate)
        self.mlp_inputs, self.mlp_inputs_bias = _side_by_side(module.mlp_norm, module.mlp.gate, module.mlp.input)
        self.output, self.output_bias = _copies(module.output.weight.T, module.output.bias)
        self.mlp_output, self.mlp_output_bias = _copies(module.mlp.output.weight.T, module.mlp.output.bias)
        self.kernel, self.conv_bias = _copies(module.conv.kernel, module.conv.bias)
        self.gates: Tensor | None = None
        if recurrence is not None:
            halves = [torch.block_diag(*half) for half in recurrence.gate_weight.detach().chunk(2, dim=-1)]
            self.gates = torch.cat(halves, dim=1)
            self.gates_bias = torch.cat([half.flatten() for half in recurrence.gate_bias.detach().chunk(2, dim=-1)])
            self.rates = -C * F.softplus(recurrence.decay.detach())
            self.phase = None if recurrence.phase is None else recurrence.phase.detach().clone()

    def __call__(self, x: Tensor, u: Tensor, state: Lanes, fresh: Tensor) -> tuple[Tensor, Tensor, Lanes]:
        newest, gate = torch.addmm(self.inputs_bias, u, self.inputs).chunk(2, dim=-1)
        mixed, h = self.fused.convolve(newest, state.window, self.kernel, self.conv_bias), None
        if self.gates is None:
            mixed = mixed * F.gelu(gate, approximate="tanh")
        else:
            gates = torch.addmm(self.gates_bias, mixed, self.gates)
            h, mixed = self.fused.recur(mixed, gates, self.rates, self.phase, state.h, fresh, gate)
        x, u = self.fused.add_and_normalise(x, mixed @ self.output, self.output_bias)
        hidden = self.fused.gate(torch.addmm(self.mlp_inputs_bias, u, self.mlp_inputs))
        x, u = self.fused.add_and_normalise(x, hidden @ self.mlp_output, self.mlp_output_bias)
        return x, u, Lanes((*state.window, newest)[1:], h)


def _normalised(x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], eps=EPSILON)


def _normed(norm: nn.RMSNorm, layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """The matrix (inputs, outputs) and bias of a linear layer behind a norm, with the norm's weights in it."""
    return _copies(layer.weight.T * norm.weight[:, None], layer.bias)


def _side_by_side(norm: nn.RMSNorm, first: nn.Linear, second: nn.Linear) -> tuple[Tensor, Tensor]:
    (a, a_bias), (b, b_bias) = _normed(norm, first), _normed(norm, second)
    return torch.cat([a, b], dim=1), torch.cat([a_bias, b_bias])


def _copies(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.detach().clone() for tensor in tensors)
