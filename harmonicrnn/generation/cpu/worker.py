"""Worker, one thread's program with its states and buffers, and the compiled loop over samples."""

from typing import Any

import numpy as np
from torch import Tensor

from harmonicrnn.generation.cpu.addresses import WORKER, address, aligned
from harmonicrnn.generation.cpu.class_choice import choose
from harmonicrnn.generation.cpu.layers.channel_steps import EmbeddingStep
from harmonicrnn.generation.cpu.layers.linear import ProductStep
from harmonicrnn.generation.cpu.layers.pooling_steps import EnterStep
from harmonicrnn.generation.cpu.llvm import call_step, record, view
from harmonicrnn.generation.cpu.worker_program import Program
from harmonicrnn.machine_code import code_address, kept
from harmonicrnn.models import ModelState


@kept
def run(
    tag: Any, program: Any, worker: Any, last: Any, uniforms: Any, temperature: Any, top_p: Any, classes: Any, likelihoods: Any,
    forced: Any, all_logits: Any, weights: Any, order: Any,
) -> None:  # fmt: skip
    """Runs one worker through as many samples as `classes` has columns, without allocations or calls into Python.

    Args:
        tag: any number of the type of the activations.
        program: (operations, 2) int64, the addresses of each one's code and of its record.
        worker: the address of a WORKER.
        last: (lanes,) int64, the class before the first; updated.
        uniforms: (lanes, n) float64.
        classes: (lanes, n) int64; written, or read if `forced`.
        likelihoods: (lanes, n) float64, the nats; written.
        all_logits: (lanes, n, q) for the logits, or with n = 0 to drop them.
        weights, order: (q,) float64 and int64, scratch for the choice.
    """
    me = record(worker, WORKER)
    for t in range(classes.shape[1]):
        i = np.int64(0)
        while i < len(program):
            i += 1 + call_step(program[i, 0], tag, program[i, 1], worker)
        for lane in range(me.lanes):
            logits = view(me.logits, lane * me.logits_stride, me.classes, tag)
            given = classes[lane, t] if forced else np.int64(-1)
            classes[lane, t], likelihoods[lane, t] = choose(logits, given, uniforms[lane, t], temperature, top_p, weights, order)
            last[lane] = classes[lane, t]
            if all_logits.shape[1]:
                for c in range(len(logits)):
                    all_logits[lane, t, c] = logits[c]


class Worker:
    """Runs its share of each layer for all lanes."""

    def __init__(self, program: Program) -> None:
        self.program, self.share = program, program.share
        self._code = [code_address(operation.step, self.share.dtype, np.int64, np.int64) for operation in program.operations]

    def begin(self, lanes: int, classes: int) -> None:
        """Allocates its states and rooms; those of the team are allocated already."""
        share = self.share
        for room in share.rooms:
            room.begin(lanes)
        for operation in self.program.operations:
            operation.begin(lanes)
        # Two parts of each input, to the end of a step.
        widest = 2 * (max(int(o.record["inputs"][0]) for o in self.program.operations if isinstance(o, ProductStep)) + 4)
        self._whole, self._scales = aligned((lanes, widest), np.dtype(np.int16)), aligned(lanes, np.dtype(np.float32))
        self._weights, self._order = np.zeros(classes), np.zeros(classes, dtype=np.int64)
        logits = share.team.logits
        self._last = next(o.last for o in self.program.operations if isinstance(o, EmbeddingStep))
        self._me = np.zeros(1, WORKER)
        self._me[0] = (
            lanes, share.rank, share.team.ranks, 0, address(share.team.flags), address(self._whole), widest, address(self._scales),
            logits[0].address, logits.width, classes,
        )  # fmt: skip
        records = [address(operation.record) for operation in self.program.operations]
        self._table = np.array([self._code, records], dtype=np.int64).T.copy()

    def run(self, uniforms: Tensor, temperature: float, top_p: float, forced: Tensor | None, logits: bool) -> tuple[np.ndarray, ...]:
        """Steps through the samples in compiled code, see `run`; returns classes, nats and (maybe empty) logits."""
        lanes, samples = uniforms.shape
        dtype, q = self.share.dtype, len(self._weights)
        classes = np.zeros((lanes, samples), dtype=np.int64) if forced is None else forced.numpy().copy()
        nats, kept = np.zeros((lanes, samples)), np.zeros((lanes, samples if logits else 0, q), dtype=dtype)
        run(
            dtype.type(0), self._table, address(self._me), self._last, np.ascontiguousarray(uniforms.numpy()), temperature, top_p,
            classes, nats, forced is not None, kept, self._weights, self._order,
        )  # fmt: skip
        return classes, nats, kept

    def load(self, state: ModelState) -> None:
        """Loads this worker's part of a state."""
        for operation in self.program.operations:
            operation.load(state)

    def store(self, state: ModelState) -> None:
        """Writes this worker's part of the state into the tensors of `state`; the phases must be set already."""
        for operation in self.program.operations:
            operation.store(state)
        state.fresh[:] = state.levels.fresh  # type: ignore[attr-defined]

    @property
    def phases(self) -> list[int]:
        """Returns the position in the open pooling window of each level, outermost first."""
        return [operation.phase for operation in self.program.operations if isinstance(operation, EnterStep)]
