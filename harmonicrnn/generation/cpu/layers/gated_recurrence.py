"""The gated recurrence (CG-LRU and RG-LRU) as a step of the CPU engine."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harmonicrnn.generation.cpu.addresses import WORKER, Place, Room, layout, padded
from harmonicrnn.generation.cpu.layers.linear import ProductStep
from harmonicrnn.generation.cpu.llvm import PANEL, record, view
from harmonicrnn.generation.cpu.operation import Find, Operation, Share
from harmonicrnn.generation.cpu.worker_program import Level, Program
from harmonicrnn.machine_code import kept
from harmonicrnn.models import GatedRecurrence, ModelState
from harmonicrnn.ops.cg_lru import C
from harmonicrnn.ops.elementary import exp_expm1, like, sigmoid, sine_cosine

RECURRENCE = layout(
    "source", "source_stride", "gates", "gates_stride", "h", "h_stride", "room", "room_stride", "fresh", "fresh_stride",
    "parts", "units", "heads", "head_units", "head_stride", "real_at", "imaginary_at", "decay", "angle", "unit_first_step",
)  # fmt: skip
"""`units` units of `parts` real numbers; inputs begin at real_at and imaginary_at; gates of heads are head_stride apart."""


@kept
def _recur(tag: Any, at: Any, worker: Any) -> Any:
    """Split into loops with few operands, which LLVM vectorises."""
    o, me = record(at, RECURRENCE), record(worker, WORKER)
    units, per_head, two = o.units, o.head_units, like(2, tag)
    decay = view(o.decay, 0, units, tag)
    for lane in range(me.lanes):
        gates = view(o.gates, lane * o.gates_stride, o.heads * o.head_stride, tag)
        room = lane * o.room_stride
        both = view(o.room, room, 2 * units, tag)
        r, gate, modulus = both[:units], both[units:], view(o.room, room + 2 * units, units, tag)
        for head in range(o.heads):
            recurrence, inputs = gates[head * o.head_stride :], gates[head * o.head_stride + per_head :]
            r_head, gate_head = r[head * per_head :], gate[head * per_head :]
            for j in range(per_head):
                r_head[j] = recurrence[j]
                gate_head[j] = inputs[j]
        for j in range(2 * units):
            both[j] = sigmoid(both[j])
        if view(o.fresh, lane * o.fresh_stride, 1, tag)[0] != 0 and o.unit_first_step != 0:
            for j in range(units):
                modulus[j] = exp_expm1(r[j] * decay[j])[0]
        else:
            for j in range(units):
                modulus[j], less_one = exp_expm1(r[j] * decay[j])
                gate[j] *= np.sqrt(-less_one * (less_one + two))
        x, h = view(o.source, lane * o.source_stride + o.real_at, units, tag), view(o.h, lane * o.h_stride, units, tag)
        if o.parts == 1:
            for j in range(units):
                h[j] = modulus[j] * h[j] + gate[j] * x[j]
            continue
        angle, x_imaginary = view(o.angle, 0, units, tag), view(o.source, lane * o.source_stride + o.imaginary_at, units, tag)
        h_imaginary, imaginary = view(o.h, lane * o.h_stride + units, units, tag), view(o.room, room + 3 * units, units, tag)
        for j in range(units):
            sine, cosine = sine_cosine(r[j] * angle[j])
            imaginary[j] = modulus[j] * sine
            modulus[j] *= cosine
        for j in range(units):
            r[j] = modulus[j] * h[j] - imaginary[j] * h_imaginary[j]
        for j in range(units):
            h_imaginary[j] = modulus[j] * h_imaginary[j] + imaginary[j] * h[j]
        for j in range(units):
            h_imaginary[j] += gate[j] * x_imaginary[j]
        for j in range(units):
            h[j] = r[j] + gate[j] * x[j]
    return np.int64(0)


class RecurrenceStep(Operation):
    """Steps a worker's units; the output is the state h."""

    layout, step = RECURRENCE, staticmethod(_recur)

    def __init__(self, share: Share, own: "OwnUnits", source: Place, gates: Place, scratch: Room, fresh: Room, find: Find) -> None:
        layer, units, rows = own.layer, own.units, own.inputs
        self._h, self._own, self._fresh, self._find = share.room(own.parts * len(units)), own, fresh, find
        scratch.need(4 * len(units))
        super().__init__(
            share, source=source, gates=gates, h=self._h[0], room=scratch[0], fresh=fresh[0], parts=own.parts, units=len(units),
            heads=len(own.heads), head_units=own.head_units, head_stride=own.head_stride,
            real_at=int((rows < units.start).sum()), imaginary_at=int((rows < units.start + layer.units).sum()),
            decay=-C * F.softplus(layer.decay.detach().double()[units.start : units.stop]), unit_first_step=layer.unit_first_step,
            **({} if layer.phase is None else {"angle": layer.phase[units.start : units.stop]}),
        )  # fmt: skip

    @property
    def output(self) -> Place:
        return self._h[0]

    def load(self, state: ModelState) -> None:
        h = self._find(state).h
        self._h.array[:, : len(self._own.outputs)] = h[:, self._own.outputs].numpy()

    def store(self, state: ModelState) -> None:
        recurrence = self._find(state)
        recurrence.h[:, self._own.outputs] = torch.from_numpy(self._h.array[:, : len(self._own.outputs)])
        recurrence.fresh[:] = torch.from_numpy(self._fresh.array[:, 0] != 0)


class OwnUnits:
    """A worker's part of a layer: whole heads.

    Attributes:
        parts: real numbers per unit (2 if complex).
        heads, units: the worker's heads and units; several heads of the layer form one here, see `_merged_heads`.
        inputs, outputs: the layer's channels that these units read, ascending, and those of their states, real parts first.
        head_units, head_stride: units per head, and the distance of heads in the gates.
    """

    def __init__(self, program: Program, layer: GatedRecurrence, level: Level, find: Find) -> None:
        program.expect((GatedRecurrence,), layer)
        share = program.share
        self.layer, self.parts = layer, 1 if layer.phase is None else 2
        self._program, self._fresh, self._find = program, level.fresh, find
        weights = layer.gate_weight.detach()
        share.products.round(weights)
        self._weight, self._bias = _merged_heads(weights, layer.gate_bias.detach())
        count, self._head_width, _ = self._weight.shape
        self.heads, self.head_units = share.part(count), layer.units // count
        self.head_stride = padded(2 * self.head_units)
        self.units = range(self.heads.start * self.head_units, self.heads.stop * self.head_units)
        units = torch.tensor(self.units, dtype=torch.long)
        self.outputs = units if self.parts == 1 else torch.cat([units, units + layer.units])
        of_heads = torch.arange(self.heads.start * self._head_width, self.heads.stop * self._head_width)
        self.inputs = torch.cat([of_heads, self.outputs]).unique()

    def rest(self, source: Place) -> Place:
        """Adds its operations on inputs at `source`; returns the place of the outputs."""
        program, share = self._program, self._program.share
        first = source.start + int((self.inputs < self.heads.start * self._head_width).sum())
        own, steps = slice(self.heads.start, self.heads.stop), (self._head_width, self.head_stride)
        program.add(ProductStep(share, self._weight[own], self._bias[own], source.room[first], program.gates[0], steps=steps))
        step = RecurrenceStep(share, self, source, program.gates[0], program.normed, self._fresh, self._find)
        program.add(step)
        return step.output


def _merged_heads(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Merges the gates of heads into panels: block-diagonal (H, inputs, 2 units) and (H, 2 units). A product with few outputs takes as long
    as one of a whole panel."""
    heads, inputs, outputs = weight.shape
    together = next(n for n in range(max(1, PANEL // outputs), 0, -1) if heads % n == 0)
    diagonal = torch.eye(together, dtype=weight.dtype).view(together, 1, 1, together, 1)
    merged = weight.view(-1, together, inputs, 2, 1, outputs // 2) * diagonal
    bias = bias.view(-1, together, 2, outputs // 2).transpose(1, 2).flatten(1)
    return merged.reshape(-1, together * inputs, together * outputs), bias
