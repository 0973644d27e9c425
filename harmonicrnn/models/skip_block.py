"""The recursive stack: blocks, down-pooling, the same again inside, up-pooling, blocks (Poolformer, arXiv 2510.02206).

    x = pre(x);  x = post(x + shift(up(inner(down(x)))))

Causality. A pooled step over inputs kp .. kp+p-1 is complete at t = kp+p-1, so its up-pooled result may serve outputs from there on:
a shift of p - 1 steps ("tight"), the smallest that does not look ahead. SaShiMi and Mamba shift by a whole frame of p steps ("frame").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harmonicrnn.models.block import BlockPlace, Stack
from harmonicrnn.models.mixing import MixesTime
from harmonicrnn.models.pooling import DownPool, UpPool
from harmonicrnn.models.presets import Init
from harmonicrnn.models.state import State, after, state_dtype

Shift = Literal["tight", "frame"]


@dataclass(frozen=True)
class LevelSpec:
    """One level of the stack.

    Args:
        width: Channels D of this level.
        depth: Residual blocks before the inner levels, and again after them (once, in the centre).
        factor: Samples of this level that make one of the next; 1 for the last level, the centre, which has none below it.
        recompute: Keep only each block's input for the backward pass and compute the rest again: less memory, a forward pass more time.
    """

    width: int
    depth: int
    factor: int = 1
    recompute: bool = False


def check_levels(levels: Sequence[LevelSpec]) -> None:
    """Raises ValueError, naming the level, for a list that is no stack."""
    if not levels:
        raise ValueError("levels is empty: give at least one level (the centre)")
    for i, level in enumerate(levels):
        centre = i == len(levels) - 1
        if level.width < 1 or level.depth < 1:
            raise ValueError(f"levels[{i}]: width ({level.width}) and depth ({level.depth}) must be at least 1")
        if centre and level.factor != 1:
            raise ValueError(f"levels[{i}] is the centre, with no level below it to pool into: its factor must be 1, got {level.factor}")
        if not centre and level.factor < 2:
            raise ValueError(f"levels[{i}]: a level with another below it needs a factor of at least 2, got {level.factor}")


@dataclass(frozen=True)
class Pooling:
    """How levels are joined, and how their outputs begin.

    groups: of the pooling convolutions; 0 for one a channel.
    shift: "tight" (p - 1 steps) or "frame" (p steps).
    init: "paper" gives the output projections of a level, and its up-pooling, a variance of 1 / (4 depth + 1), 1 / (2 depth) in the centre;
        "griffin" all output projections one of 2 / blocks.
    blocks: in the model.
    """

    groups: int
    shift: Shift
    init: Init
    blocks: int

    def output_variance(self, level: LevelSpec) -> float:
        """Of what is added to the residual path of a level, times the fan-in."""
        if self.init == "griffin":
            return 2 / self.blocks
        return 1 / (4 * level.depth + 1 if level.factor > 1 else 2 * level.depth)


MakeBlock = Callable[[BlockPlace], nn.Module]


@dataclass(frozen=True)
class SkipState(State):
    """State of a level with others below it, in buffers of fixed shape; s = p - 1 (tight) or p (frame).

    window (B, p - 1, D): the inputs of the open pooling window, of which the first `phase` count, the rest zero.
    pending (B, s, D): outputs of up-pooling that are decided but not yet due, of which the first s - phase count, the rest zero.
    phase: t mod p, the same for all lanes.
    """

    pre: State
    window: Tensor
    inner: State
    pending: Tensor
    post: State
    fresh: Tensor
    phase: int

    def _reset_field(self, name: str, lanes: Tensor) -> Any:
        if name != "phase" or self.phase == 0:
            return super()._reset_field(name, lanes)
        if not lanes.all():
            raise ValueError(
                f"some lanes are to be reset {self.phase} steps into a pooling window that all lanes share: "
                "reset them after a multiple of the pooling product, or all together"
            )
        return 0


class SkipBlock(MixesTime):
    """A level and, inside it, the levels below.

    Args:
        levels: This level and those below it, the outermost first.
        make_block: From a block's place to a block that is `forward(x, state=None) -> (y, state)`.
        pooling: How levels are joined.
        pooled: Samples that make one step of this level.
    """

    def __init__(self, levels: Sequence[LevelSpec], make_block: MakeBlock, pooling: Pooling, pooled: int) -> None:
        super().__init__()
        outer, inner = levels[0], levels[1]
        self.factor = outer.factor
        self.shift = outer.factor - 1 if pooling.shift == "tight" else outer.factor
        variance = pooling.output_variance(outer)
        place = BlockPlace(outer.width, variance, pooled)
        self.pre = Stack([make_block(place) for _ in range(outer.depth)], outer.recompute)
        self.down = DownPool(outer.width, inner.width, outer.factor, pooling.groups, pooling.init)
        self.inner = build_levels(levels[1:], make_block, pooling, pooled * outer.factor)
        up_variance = variance if pooling.init == "paper" else None
        self.up = UpPool(inner.width, outer.width, outer.factor, pooling.groups, pooling.init, up_variance)
        self.post = Stack([make_block(place) for _ in range(outer.depth)], outer.recompute)

    def forward(self, x: Tensor, state: SkipState | None = None) -> tuple[Tensor, SkipState]:
        """x and y (B, T, D)."""
        x, pre = self.pre(x, state.pre if state else None)
        pooled, window, inner, pending, phase = self._through_inner(x, state)
        y, post = self.post(x + pooled, state.post if state else None)
        return y, SkipState(pre, window, inner, pending, post, after(self.fresh_lanes(x, state), x), phase)

    def _through_inner(self, x: Tensor, state: SkipState | None) -> tuple[Tensor, Tensor, State, Tensor, int]:
        """shift(up(inner(down(x)))) and what it leaves behind; full windows are pooled, the rest waits."""
        batch, time, width = x.shape
        p, s = self.factor, self.shift
        phase = state.phase if state else 0
        if self.slices is not None and (phase or time % p):
            raise ValueError(f"a slice must consist of whole pooling windows of {p} steps; got {time} steps, {phase} steps into one")
        dtype = state_dtype(x)
        opened = torch.cat([state.window[:, :phase].to(x.dtype), x], dim=1) if phase and state else x
        complete = opened.shape[1] // p * p
        tokens, inner = self.inner(self.down(opened[:, :complete]), state.inner if state else None)
        decided = state.pending[:, : s - phase].to(x.dtype) if state else x.new_zeros(batch, s, width)
        raised = self.up(tokens).to(x.dtype)
        if self.slices is not None:
            decided = self.slices.halo(raised, decided)
        decided = torch.cat([decided, raised], dim=1)
        window = _pad(opened[:, complete:].to(dtype), p - 1)
        pending = _pad(decided[:, time:].to(dtype), s)
        return decided[:, :time], window, inner, pending, (phase + time) % p


def build_levels(levels: Sequence[LevelSpec], make_block: MakeBlock, pooling: Pooling, pooled: int = 1) -> Stack | SkipBlock:
    """A SkipBlock where there is a level below, a plain stack in the centre."""
    if len(levels) > 1:
        return SkipBlock(levels, make_block, pooling, pooled)
    place = BlockPlace(levels[0].width, pooling.output_variance(levels[0]), pooled)
    return Stack([make_block(place) for _ in range(levels[0].depth)], levels[0].recompute)


def _pad(x: Tensor, length: int) -> Tensor:
    """x (B, T, D) with zeros after it up to `length` steps."""
    return nn.functional.pad(x, (0, 0, 0, length - x.shape[1]))
