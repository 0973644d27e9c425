"""The embedding of the previous class as a step of the CPU engine."""

from typing import Any

import numpy as np
import torch

from harmonicrnn.generation.cpu.addresses import WORKER, Place, address, layout
from harmonicrnn.generation.cpu.llvm import record, view
from harmonicrnn.generation.cpu.operation import Operation, Share
from harmonicrnn.machine_code import kept
from harmonicrnn.models import ModelState
from harmonicrnn.models.embedding import ClassEmbedding

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
