"""One thread's program with the states and rooms of its lanes."""

import numpy as np
from torch import Tensor

from harmonicrnn.generation.cpu.addresses import address, aligned
from harmonicrnn.generation.cpu.layers import KINDS
from harmonicrnn.generation.cpu.layers.embedding_step import EmbeddingStep
from harmonicrnn.generation.cpu.layers.linear import ProductStep
from harmonicrnn.generation.cpu.layers.pooling_steps import EnterStep
from harmonicrnn.generation.cpu.loop import run
from harmonicrnn.generation.cpu.operation import WORKER
from harmonicrnn.generation.cpu.worker_program import Program
from harmonicrnn.models import ModelState


class Worker:
    """Steps all lanes, as far as its share of each layer goes."""

    def __init__(self, program: Program) -> None:
        self.program, self.share = program, program.share

    def begin(self, lanes: int, classes: int) -> None:
        """Make its states and rooms for so many lanes and classes; those of the team are there."""
        share = self.share
        for room in share.rooms:
            room.begin(lanes)
        for operation in self.program.operations:
            operation.begin(lanes)
        widest = max(int(o.record["inputs"][0]) for o in self.program.operations if isinstance(o, ProductStep))
        self._whole, self._scales = aligned((lanes, widest + 4), np.dtype(np.int16)), aligned(lanes, np.dtype(np.float32))
        self._weights, self._order = np.zeros(classes), np.zeros(classes, dtype=np.int64)
        logits = share.team.logits
        self._last = next(o.last for o in self.program.operations if isinstance(o, EmbeddingStep))
        self._me = np.zeros(1, WORKER)
        self._me[0] = (
            lanes, share.rank, share.team.ranks, 0, address(share.team.flags), address(self._whole), widest + 4, address(self._scales),
            logits[0].address, logits.width, classes,
        )  # fmt: skip
        self._table = np.array([(KINDS.index(type(o)), address(o.record)) for o in self.program.operations], dtype=np.int64)

    def run(self, uniforms: Tensor, temperature: float, top_p: float, forced: Tensor | None, logits: bool) -> tuple[np.ndarray, ...]:
        """Step through the samples of its lanes in compiled code, see `loop.run`: their classes, nats and (or none) logits."""
        lanes, samples = uniforms.shape
        dtype, q = self.share.dtype, len(self._weights)
        classes = np.zeros((lanes, samples), dtype=np.int64) if forced is None else forced.numpy().copy()
        nats, kept = np.zeros((lanes, samples)), np.zeros((lanes, samples if logits else 0, q), dtype=dtype)
        run(
            dtype.type(0), self._table, self._me, self._last, np.ascontiguousarray(uniforms.numpy()), temperature, top_p,
            classes, nats, forced is not None, kept, self._weights, self._order,
        )  # fmt: skip
        return classes, nats, kept

    def load(self, state: ModelState) -> None:
        """Take up this worker's part of a state."""
        for operation in self.program.operations:
            operation.load(state)

    def store(self, state: ModelState) -> None:
        """Write this worker's part of its state into the tensors of `state`, all but the phases, which are as they will be."""
        for operation in self.program.operations:
            operation.store(state)
        state.fresh[:] = state.levels.fresh  # type: ignore[attr-defined]

    @property
    def phases(self) -> list[int]:
        """Steps into the open pooling window of each level, the outermost first."""
        return [operation.phase for operation in self.program.operations if isinstance(operation, EnterStep)]
