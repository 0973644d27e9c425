"""SkipBlock, the recursive stack of levels: blocks, down-pooling, inner levels, up-pooling, blocks (arXiv 2510.02206).

    x = pre(x);  x = post(x + shift(up(inner(down(x)))))

Causality. A pooled step over inputs kp .. kp+p-1 is complete at t = kp+p-1, so its up-pooled result can be used from there on:
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
        factor: Steps of this level per step of the next; 1 for the last level, the centre.
        recompute: Keep only each block's input for the backward pass and recompute the rest: less memory, one more forward pass.
    """

    width: int
    depth: int
    factor: int = 1
    recompute: bool = False


def check_levels(levels: Sequence[LevelSpec]) -> None:
    """Raises ValueError, naming the level, if the list is not a valid stack."""
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
    """How levels are joined, and the initialisation of their outputs.

    groups: of the pooling convolutions; 0 for one per channel.
    shift: "tight" (p - 1 steps) or "frame" (p steps).
    init: initial variance of a level's output projections and up-pooling: 1 / (4 depth + 1), 1 / (2 depth) in the centre, for "paper"; of
        all output projections 2 / blocks for "griffin".
    blocks: in the model.
    """

    groups: int
    shift: Shift
    init: Init
    blocks: int

    def output_variance(self, level: LevelSpec) -> float:
        """Returns the initial variance of a level's output projections, times their fan-in."""
        if self.init == "griffin":
            return 2 / self.blocks
        return 1 / (4 * level.depth + 1 if level.factor > 1 else 2 * level.depth)


MakeBlock = Callable[[BlockPlace], nn.Module]


@dataclass(frozen=True)
class SkipState(State):
    """State of a level with others below it, in buffers of fixed shape; s = p - 1 (tight) or p (frame).

    window (B, p - 1, D): inputs of the open pooling window; the first `phase` are valid, the rest zero.
    pending (B, s, D): outputs of up-pooling not yet due; the first s - phase are valid, the rest zero.
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
    """A level with the levels below inside it.

    Args:
        levels: This level and those below it, the outermost first.
        make_block: Makes a block `forward(x, state=None) -> (y, state)` for a place.
        pooling: How levels are joined.
        pooled: Samples per step of this level.
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
        """x (B, T, D) to y (B, T, D)."""
        x, pre = self.pre(x, state.pre if state else None)
        pooled, window, inner, pending, phase = self._through_inner(x, state)
        y, post = self.post(x + pooled, state.post if state else None)
        return y, SkipState(pre, window, inner, pending, post, after(self.fresh_lanes(x, state), x), phase)

    def _through_inner(self, x: Tensor, state: SkipState | None) -> tuple[Tensor, Tensor, State, Tensor, int]:
        """Returns shift(up(inner(down(x)))) and the parts of the new state; only full windows are pooled."""
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
    """Returns a SkipBlock if there is a level below, else a plain stack, the centre."""
    if len(levels) > 1:
        return SkipBlock(levels, make_block, pooling, pooled)
    place = BlockPlace(levels[0].width, pooling.output_variance(levels[0]), pooled)
    return Stack([make_block(place) for _ in range(levels[0].depth)], levels[0].recompute)


def _pad(x: Tensor, length: int) -> Tensor:
    """Pads x (B, T, D) with zeros to `length` steps."""
    return nn.functional.pad(x, (0, 0, 0, length - x.shape[1]))
