"""Pooling between levels of the U-Net as steps of the CPU engine: pooling window, down-pooling and up-pooling."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from harmonicrnn.generation.cpu.addresses import WORKER, Place, layout, padded
from harmonicrnn.generation.cpu.layers.linear import ProductStep
from harmonicrnn.generation.cpu.llvm import record, view
from harmonicrnn.generation.cpu.operation import Find, Operation, Share
from harmonicrnn.generation.cpu.worker_program import Level, Program
from harmonicrnn.machine_code import jit, kept
from harmonicrnn.models import DownPool, ModelState, SkipBlock, UpPool
from harmonicrnn.models.skip_block import SkipState
from harmonicrnn.ops.elementary import like

WINDOW = layout(
    "x", "x_stride", "window", "window_stride", "raised", "raised_stride", "factor", "frame", "phase", "groups", "group_width",
    "group_stride", "skipped",
)  # fmt: skip
"""`window` (lanes, groups, factor, group_width): inputs of the open window; the first `phase` are valid. `raised` (lanes,
groups, group_stride): outputs of the level below, factor steps per group."""
BY_CHANNEL = layout("inner", "inner_stride", "steps", "steps_stride", "factor", "width", "kernel", "bias")
FRESH = layout("fresh", "fresh_stride")


@kept
def _enter(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, WINDOW), record(worker, WORKER)
    size = o.group_width
    for lane in range(me.lanes):
        for group in range(o.groups):
            x = view(o.x, lane * o.x_stride + group * size, size, tag)
            place = view(o.window, lane * o.window_stride + (group * o.factor + o.phase) * size, size, tag)
            for j in range(size):
                place[j] = x[j]
    if o.frame:
        _add_raised(tag, o, me, o.phase)
    return np.int64(0) if o.phase == o.factor - 1 else o.skipped


@kept
def _merge(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, WINDOW), record(worker, WORKER)
    o.phase = (o.phase + 1) % o.factor
    if not o.frame:
        _add_raised(tag, o, me, o.phase)
    return np.int64(0)


@jit
def _add_raised(tag: Any, o: Any, me: Any, step: Any) -> None:
    size = o.group_width
    for lane in range(me.lanes):
        for group in range(o.groups):
            x = view(o.x, lane * o.x_stride + group * size, size, tag)
            raised = view(o.raised, lane * o.raised_stride + group * o.group_stride + step * size, size, tag)
            for j in range(size):
                x[j] += raised[j]


class EnterStep(Operation):
    """Writes x into the window; skips the level below until the window is full."""

    layout, step = WINDOW, staticmethod(_enter)

    def __init__(self, share: Share, block: SkipBlock, level: Level, find: Find) -> None:
        groups = 1 if by_channel(block.down) else block.down.groups
        self.shape = groups, block.factor, level.width // groups
        stride = padded(block.factor * self.shape[2])
        self.window, self.raised = share.room(block.factor * level.width), share.room(groups * stride)
        self._level, self._find = level, find
        super().__init__(
            share, x=level.x[0], window=self.window[0], raised=self.raised[0], factor=block.factor, frame=block.shift == block.factor,
            groups=groups, group_width=self.shape[2], group_stride=stride,
        )  # fmt: skip

    @property
    def phase(self) -> int:
        return int(self.record["phase"][0])

    def load(self, state: ModelState) -> None:
        skip = self._find(state)
        self.record["phase"] = skip.phase
        for steps, values in self._what_counts(skip):
            steps[...] = values.numpy()

    def store(self, state: ModelState) -> None:
        skip = self._find(state)
        skip.fresh[:] = torch.from_numpy(self._level.fresh.array[:, 0] != 0)
        for steps, values in self._what_counts(skip):
            values.copy_(torch.from_numpy(steps))

    def _what_counts(self, state: SkipState) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yields the valid part of the window and the pending results, each as (array here, tensor of the state)."""
        (groups, p, width), phase, lanes = self.shape, self.phase, len(state.fresh)
        due = state.pending.shape[1] - phase
        window = self.window.array[:, : groups * p * width].reshape(lanes, groups, p, width)
        yield window[:, :, :phase].transpose(0, 2, 1, 3), state.window[:, :phase].unflatten(-1, (groups, width))
        steps = (
            self.raised.array.reshape(lanes, groups, -1)[:, :, : p * width]
            .reshape(lanes, groups, p, width)[:, :, p - due :]
            .transpose(0, 2, 1, 3)
        )
        yield steps, state.pending[:, :due].unflatten(-1, (groups, width))


class MergeStep(Operation):
    """Adds the due step of the level below to x, and advances the window."""

    layout, step = WINDOW, staticmethod(_merge)

    def __init__(self, share: Share, enter: EnterStep) -> None:
        super().__init__(share)
        self.record = enter.record


def by_channel(layer: DownPool | UpPool) -> bool:
    """Returns whether channels are pooled independently, one to one."""
    return layer.weight.shape[1:] in ((layer.factor, 1), (1, layer.factor))


def pool_down(share: Share, layer: DownPool, enter: EnterStep, inner: Level) -> Iterator[Operation]:
    """Yields the operations from the full window to x of the level below."""
    groups, factor, width = enter.shape
    if by_channel(layer):
        yield DownStep(share, inner, enter.window[0], factor, layer.weight[:, :, 0].T, layer.bias)
        return
    share.products.round(layer.weight.detach())
    outputs = inner.width // groups
    # Groups in ascending order: each writes whole panels, and the next one overwrites the excess.
    biases, steps = layer.bias.view(groups, outputs), (factor * width, outputs)
    yield ProductStep(share, layer.weight, biases, enter.window[0], inner.x[0], steps=steps)


def pool_up(share: Share, layer: UpPool, enter: EnterStep, inner: Level) -> Iterator[Operation]:
    """Yields the operations from x of the level below to the steps due from the next one on."""
    groups, factor, width = enter.shape
    if by_channel(layer):
        yield UpStep(share, inner, enter.raised[0], factor, layer.weight[:, 0].T, layer.bias)
        return
    share.products.round(layer.weight.detach())
    biases, steps = layer.bias.view(groups, width).repeat(1, factor), (inner.width // groups, padded(factor * width))
    yield ProductStep(share, layer.weight, biases, inner.x[0], enter.raised[0], steps=steps)


@kept
def _down(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, BY_CHANNEL), record(worker, WORKER)
    bias = view(o.bias, 0, o.width, tag)
    for lane in range(me.lanes):
        x = view(o.inner, lane * o.inner_stride, o.width, tag)
        for j in range(len(x)):
            x[j] = bias[j]
        for k in range(o.factor):
            kernel, step = view(o.kernel, k * o.width, o.width, tag), view(o.steps, lane * o.steps_stride + k * o.width, o.width, tag)
            for j in range(len(x)):
                x[j] += kernel[j] * step[j]
    return np.int64(0)


@kept
def _up(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, BY_CHANNEL), record(worker, WORKER)
    bias = view(o.bias, 0, o.width, tag)
    for lane in range(me.lanes):
        x = view(o.inner, lane * o.inner_stride, o.width, tag)
        for k in range(o.factor):
            kernel, step = view(o.kernel, k * o.width, o.width, tag), view(o.steps, lane * o.steps_stride + k * o.width, o.width, tag)
            for j in range(len(x)):
                step[j] = bias[j] + kernel[j] * x[j]
    return np.int64(0)


class DownStep(Operation):
    """Pools `factor` steps into one, per channel; kernels (factor, channels)."""

    layout, step = BY_CHANNEL, staticmethod(_down)

    def __init__(self, share: Share, inner: Level, steps: Place, factor: int, kernel: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__(share, inner=inner.x[0], steps=steps, factor=factor, width=inner.width, kernel=kernel, bias=bias)


class UpStep(DownStep):
    """Expands one step into `factor` steps, per channel."""

    step = staticmethod(_up)


@kept
def _end(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, FRESH), record(worker, WORKER)
    for lane in range(me.lanes):
        view(o.fresh, lane * o.fresh_stride, 1, tag)[0] = like(0, tag)
    return np.int64(0)


class LevelEnd(Operation):
    """Clears the level's fresh flags."""

    layout, step = FRESH, staticmethod(_end)

    def __init__(self, share: Share, level: Level, find: Find) -> None:
        super().__init__(share, fresh=level.fresh[0])
        self._level, self._find = level, find

    def load(self, state: ModelState) -> None:
        self._level.fresh.array[:, 0] = self._find(state).fresh.numpy()


def compile_skip_block(program: Program, block: SkipBlock, level: Level, find: Find) -> None:
    """Adds post(x + shift(up(inner(down(x))))) with x = pre(x)."""
    program.expect((DownPool,), block.down)
    program.expect((UpPool,), block.up)
    share, inner = program.share, program.level(len(block.down.bias))
    program.compile(block.pre, level, lambda state: find(state).pre)
    enter = EnterStep(share, block, level, find)
    program.add(enter)
    entered = len(program.operations)
    program.add(*pool_down(share, block.down, enter, inner))
    program.compile(block.inner, inner, lambda state: find(state).inner)
    program.add(LevelEnd(share, inner, lambda state: find(state).inner), *pool_up(share, block.up, enter, inner))
    enter.record["skipped"] = len(program.operations) - entered
    program.add(MergeStep(share, enter))
    program.compile(block.post, level, lambda state: find(state).post)
