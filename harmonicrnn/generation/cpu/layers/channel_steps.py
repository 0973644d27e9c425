"""Steps of the CPU engine without matrices: embedding, norms, causal convolution and GELU gate."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harmonicrnn.generation.cpu.addresses import WORKER, Place, Room, address, aligned, layout
from harmonicrnn.generation.cpu.llvm import record, view
from harmonicrnn.generation.cpu.operation import Find, Operation, Share
from harmonicrnn.machine_code import jit_sum, kept
from harmonicrnn.models import ModelState
from harmonicrnn.models.block import LayerNorm, RMSNorm
from harmonicrnn.models.conv import CausalConv
from harmonicrnn.models.embedding import ClassEmbedding
from harmonicrnn.ops.elementary import dot, gelu, like

EMBEDDING = layout("table", "last", "target", "target_stride", "width")
"""`table` (classes, width); `last` (lanes,) int64."""


@kept
def _embed(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, EMBEDDING), record(worker, WORKER)
    last = view(o.last, 0, me.lanes, np.int64(0))
    for lane in range(me.lanes):
        x, row = view(o.target, lane * o.target_stride, o.width, tag), view(o.table, last[lane] * o.width, o.width, tag)
        for j in range(len(x)):
            x[j] = row[j]
    return np.int64(0)


class EmbeddingStep(Operation):
    """target = the embedding of each lane's last class, `last` (lanes,)."""

    layout, step = EMBEDDING, staticmethod(_embed)

    def __init__(self, share: Share, layer: ClassEmbedding, classes: int, target: Place) -> None:
        table = layer(torch.arange(classes))
        super().__init__(share, table=table, target=target, width=table.shape[1])
        target.room.need(table.shape[1])
        self._zero_level = classes // 2

    def begin(self, lanes: int) -> None:
        super().begin(lanes)
        self.last = np.zeros(lanes, dtype=np.int64)
        self.record["last"] = address(self.last)

    def load(self, state: ModelState) -> None:
        self.last[:] = torch.where(state.fresh, self._zero_level, state.last).numpy()

    def store(self, state: ModelState) -> None:
        state.last[:] = torch.from_numpy(self.last)


NORM = layout("source", "source_stride", "target", "target_stride", "width", "centred", epsilon="f8")


@torch.no_grad()
def fold(norm: LayerNorm | RMSNorm, *layers: nn.Linear) -> None:
    """Folds a norm's weights and biases into the layers after it, in place."""
    bias: Tensor | None = norm.bias if isinstance(norm, LayerNorm) else None
    for layer in layers:
        if bias is not None:
            layer.bias.add_(layer.weight @ bias)
        layer.weight *= norm.weight
    nn.init.ones_(norm.weight)
    if bias is not None:
        nn.init.zeros_(bias)


@jit_sum
def _mean(x: Any, tag: Any) -> Any:
    total = like(0, tag)
    for i in range(len(x)):
        total += x[i]
    return total / like(len(x), tag)


@kept
def _normalise(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, NORM), record(worker, WORKER)
    for lane in range(me.lanes):
        source, target = view(o.source, lane * o.source_stride, o.width, tag), view(o.target, lane * o.target_stride, o.width, tag)
        mean = _mean(source, tag) if o.centred else like(0, tag)
        for i in range(len(source)):
            target[i] = source[i] - mean
        factor = like(1, tag) / np.sqrt(dot(target, target) / like(len(target), tag) + like(o.epsilon, tag))
        for i in range(len(target)):
            target[i] *= factor
    return np.int64(0)


class NormStep(Operation):
    """target = x / rms(x); LayerNorm subtracts the mean of x first."""

    layout, step = NORM, staticmethod(_normalise)

    def __init__(self, share: Share, norm: LayerNorm | RMSNorm, width: int, source: Place, target: Place) -> None:
        centred = isinstance(norm, LayerNorm)
        super().__init__(share, source=source, target=target, width=width, centred=centred, epsilon=norm.eps or 0.0)
        target.room.need(target.start + width)


CONV = layout("source", "source_stride", "target", "target_stride", "window", "channels", "taps", "kernel", "bias")
"""`window` (lanes, taps - 1, channels): the inputs before this one; `kernel` (taps, channels)."""


@kept
def _convolve(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, CONV), record(worker, WORKER)
    size, before = o.channels, o.taps - 1
    bias, newest = view(o.bias, 0, size, tag), view(o.kernel, before * size, size, tag)
    for lane in range(me.lanes):
        x, y = view(o.source, lane * o.source_stride, size, tag), view(o.target, lane * o.target_stride, size, tag)
        for j in range(size):
            y[j] = bias[j] + newest[j] * x[j]
        start = lane * before * size
        for k in range(before):
            kernel, old = view(o.kernel, k * size, size, tag), view(o.window, start + k * size, size, tag)
            for j in range(size):
                y[j] += kernel[j] * old[j]
            following = x if k == before - 1 else view(o.window, start + (k + 1) * size, size, tag)
            for j in range(size):
                old[j] = following[j]
    return np.int64(0)


class ConvStep(Operation):
    """target = the convolution of a worker's `channels`; shifts its window.

    Channels that several workers need are computed by each, which is faster than synchronising.
    """

    layout, step = CONV, staticmethod(_convolve)

    def __init__(self, share: Share, layer: CausalConv, channels: Tensor, source: Place, target: Place, fresh: Room, find: Find) -> None:
        kernel, bias = layer.kernel[:, channels], layer.bias[channels]
        super().__init__(share, source=source, target=target, channels=len(channels), taps=len(kernel), kernel=kernel, bias=bias)
        target.room.need(target.start + len(channels))
        self._channels, self._fresh, self._find = channels, fresh, find

    def begin(self, lanes: int) -> None:
        super().begin(lanes)
        self._window = aligned((lanes, int(self.record["taps"][0]) - 1, len(self._channels)), self.share.dtype)
        self.record["window"] = address(self._window)

    def load(self, state: ModelState) -> None:
        self._window[...] = self._find(state).window[..., self._channels].numpy()

    def store(self, state: ModelState) -> None:
        conv = self._find(state)
        conv.window[..., self._channels] = torch.from_numpy(self._window)
        conv.fresh[:] = torch.from_numpy(self._fresh.array[:, 0] != 0)


GATE = layout("gate", "gate_stride", "source", "source_stride", "width")


@kept
def _gate(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, GATE), record(worker, WORKER)
    for lane in range(me.lanes):
        gate, x = view(o.gate, lane * o.gate_stride, o.width, tag), view(o.source, lane * o.source_stride, o.width, tag)
        for j in range(len(gate)):
            gate[j] = gelu(gate[j]) * x[j]
    return np.int64(0)


class GateStep(Operation):
    """gate = GELU(gate) * source, with GELU's tanh approximation."""

    layout, step = GATE, staticmethod(_gate)

    def __init__(self, share: Share, gate: Place, source: Place, width: int) -> None:
        super().__init__(share, gate=gate, source=source, width=width)
