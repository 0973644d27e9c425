"""Synchronises a team of workers and sums their parts of a layer."""

from typing import Any

import numpy as np
import torch
from numba import types

from harmonicrnn.generation.cpu.addresses import WORKER, Place, Room, layout
from harmonicrnn.generation.cpu.llvm import LINE, observe, publish, record, view
from harmonicrnn.generation.cpu.operation import Operation, Share
from harmonicrnn.machine_code import jit, kept
from harmonicrnn.ops.elementary import like

PATIENCE = 2000
"""Polls of another worker's flag before yielding the core, for which that worker may be waiting."""

SUM = layout("parts", "parts_stride", "first", "width", "target", "target_stride", "added")
LOGITS = layout("source", "source_stride", "first", "width")

_sched_yield = types.ExternalFunction("sched_yield", types.int32())


@jit
def meet(me: Any) -> None:
    """Barrier: waits for the whole team; earlier writes of each worker are visible to all afterwards."""
    if me.ranks == 1:
        return
    me.epoch += 1
    publish(me.flags + LINE * me.rank, me.epoch)
    for other in range(me.ranks):
        looks = 0
        while observe(me.flags + LINE * other) < me.epoch:
            looks += 1
            if looks > PATIENCE:
                _sched_yield()


@kept
def _sum(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, SUM), record(worker, WORKER)
    meet(me)
    for lane in range(me.lanes):
        total = view(o.target, lane * o.target_stride, o.width, tag)
        if not o.added:
            for j in range(len(total)):
                total[j] = like(0, tag)
        for rank in range(me.ranks):
            part = view(view(o.parts, rank, 1, np.int64(0))[0], lane * o.parts_stride + o.first, o.width, tag)
            for j in range(len(total)):
                total[j] += part[j]
    return np.int64(0)


class SumStep(Operation):
    """target = (or +=) channels of the sum of all workers' parts.

    Args:
        share: the worker's share.
        parts: the rooms of all workers.
        channels: to sum.
        target: of the sum.
        added: add to target instead of overwriting it.
    """

    layout, step = SUM, staticmethod(_sum)

    def __init__(self, share: Share, parts: list[Room], channels: range, target: Place, added: bool) -> None:
        super().__init__(share, first=channels.start, width=len(channels), target=target, added=added)
        target.room.need(target.start + len(channels))
        self._rooms = parts

    def begin(self, lanes: int) -> None:
        super().begin(lanes)
        self._addresses = np.array([room[0].address for room in self._rooms])
        self.record["parts"], self.record["parts_stride"] = self._addresses.ctypes.data, self._rooms[0].width


@kept
def _logits(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, LOGITS), record(worker, WORKER)
    for lane in range(me.lanes):
        own, shared = view(o.source, lane * o.source_stride, o.width, tag), view(me.logits, lane * me.logits_stride + o.first, o.width, tag)
        for j in range(len(own)):
            shared[j] = own[j]
    meet(me)
    return np.int64(0)


class LogitsStep(Operation):
    """Collects the logits of all workers' classes."""

    layout, step = LOGITS, staticmethod(_logits)

    def __init__(self, share: Share, source: Place, own: range) -> None:
        super().__init__(share, source=source, first=own.start, width=len(own))


def as_index(numbers: range) -> torch.Tensor:
    """Returns a range as an index tensor, which may be empty."""
    return torch.arange(numbers.start, numbers.stop)
