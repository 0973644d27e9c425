"""The GELU gate of a residual branch as a step of the CPU engine."""

from typing import Any

import numpy as np

from harmonicrnn.generation.cpu.addresses import WORKER, Place, layout
from harmonicrnn.generation.cpu.llvm import record, view
from harmonicrnn.generation.cpu.operation import Operation, Share
from harmonicrnn.machine_code import kept
from harmonicrnn.ops.elementary import gelu

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
