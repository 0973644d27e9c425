"""The causal depthwise convolution as a step of the CPU engine."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.generation.cpu.addresses import WORKER, Place, Room, address, aligned, layout
from harmonicrnn.generation.cpu.llvm import record, view
from harmonicrnn.generation.cpu.operation import Find, Operation, Share
from harmonicrnn.machine_code import kept
from harmonicrnn.models import ModelState
from harmonicrnn.models.conv import CausalConv

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
