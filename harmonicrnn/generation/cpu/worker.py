"""One thread's tables with the states and the room of its lanes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.generation.cpu import layers as columns
from harmonicrnn.generation.cpu.llvm import LINE
from harmonicrnn.generation.cpu.loop import run
from harmonicrnn.generation.cpu.packed_weights import address, aligned, padded
from harmonicrnn.generation.cpu.tables import Tables
from harmonicrnn.models import ModelState, State
from harmonicrnn.models.block import BlockState
from harmonicrnn.models.recurrence import RecurrenceState
from harmonicrnn.models.skip_block import SkipState


class Shared:
    """What workers that share each layer hold in common: flags to wait for one another, and the vectors they exchange."""

    def __init__(self, each: list[Tables], lanes: int) -> None:
        dtype, classes = each[0].embedding.dtype, len(each[0].embedding)
        widest = int(each[0].operations[:, columns.STRIDE].max())
        self.flags = aligned(len(each) * LINE // 8, np.dtype(np.int64))
        self.parts = aligned((3, len(each), lanes * widest), dtype)
        self.logits = aligned((lanes, classes), dtype)


class Worker:
    """Steps all lanes, as far as its share of each layer goes.

    Args:
        tables: its share of the weights; only read.
        lanes: how many.
        shared: what it has in common with the others.
    """

    def __init__(self, tables: Tables, lanes: int, shared: Shared) -> None:
        self.tables, self.lanes, self.shared = tables, lanes, shared
        self.operations, self.dtype, q = tables.operations.copy(), tables.embedding.dtype, len(tables.embedding)
        self._rows = [i for i, row in enumerate(self.operations) if row[columns.KIND] in (columns.BLOCK, columns.ENTER)]
        self._states: list[tuple[np.ndarray, np.ndarray]] = []
        levels = int(self.operations[:, columns.LEVEL].max()) + 1
        self.phases, self.last = np.zeros(levels, dtype=np.int64), np.zeros(lanes, dtype=np.int64)
        self._fresh = [self._zeros(lanes) for _ in range(levels)]
        self._place_states(levels)
        self._room = [self._zeros(lanes, tables.room) for _ in range(4)]
        self._whole, self._whole_scales = aligned((lanes, tables.room), np.dtype(np.int16)), aligned(lanes, np.dtype(np.float32))
        self._weights, self._order = np.zeros(q), np.zeros(q, dtype=np.int64)
        self.me = np.zeros(columns.WORKER_COLUMNS, dtype=np.int64)
        first = self.operations[0]
        for column, value in {
            columns.LANES_HERE: lanes,
            columns.RANK: tables.rank,
            columns.RANKS: tables.ranks,
            columns.FLAGS: address(shared.flags),
            columns.ROOM: tables.room,
            columns.PARTIAL: address(shared.parts),
            columns.PARTIAL_SIZE: shared.parts.shape[2],
            columns.PARTIAL_BYTES: shared.parts[0].nbytes,
            columns.FIRST_X: first[columns.X],
            columns.FIRST_STRIDE: first[columns.STRIDE],
            columns.FIRST_WIDTH: first[columns.WIDTH],
            columns.FIRST_FRESH: address(self._fresh[0]),
            columns.EMBEDDING: address(tables.embedding),
            columns.HEAD: tables.head,
            columns.LOGIT: tables.logits.start,
            columns.LOGIT_COUNT: tables.logits.stop - tables.logits.start,
            columns.LOGITS: address(shared.logits),
            columns.CLASSES: q,
            columns.WHOLE: address(self._whole),
            columns.WHOLE_SCALES: address(self._whole_scales),
            columns.CENTRED: int(tables.centred),
            columns.UNIT_FIRST_STEP: int(tables.unit_first_step),
        }.items():
            self.me[column] = value
        self.me[[columns.U, columns.V, columns.W, columns.GATES]] = [address(room) for room in self._room]

    def run(self, uniforms: Tensor, temperature: float, top_p: float, forced: Tensor | None, logits: bool) -> tuple[np.ndarray, ...]:
        """Step through the samples of its lanes in compiled code, see `loop.run`: their classes, nats and (or none) logits."""
        shape = (self.lanes, uniforms.shape[1])
        classes = np.zeros(shape, dtype=np.int64) if forced is None else forced.numpy().copy()
        nats = np.zeros(shape)
        kept = np.zeros((self.lanes, shape[1] if logits else 0, len(self.tables.embedding)), dtype=self.dtype)
        drawn_with = np.ascontiguousarray(uniforms.numpy())
        run(
            self.dtype.type(0), self.operations, self.tables.products, self.me, self.phases, self.last, drawn_with, temperature, top_p,
            classes, nats, forced is not None, kept, self._weights, self._order,
        )  # fmt: skip
        return classes, nats, kept

    def load(self, state: ModelState) -> None:
        """Take up this worker's part of a state."""
        first = torch.where(state.fresh, len(self.tables.embedding) // 2, state.last)
        self.last[:] = first.numpy()
        for i, arrays, layer in self._walk(state):
            row = self.operations[i]
            level = row[columns.LEVEL]
            self._fresh[level][:] = layer.fresh.numpy()
            if isinstance(layer, SkipState):
                self.phases[level] = layer.phase
                for steps, values in self._pooling(row, arrays, layer):
                    steps[...] = values.numpy()
            else:
                for part, values, which in self._block(i, arrays, layer):
                    part[...] = values[..., which].numpy()

    def store(self, state: ModelState) -> None:
        """Write this worker's part of its state into the tensors of `state`, all but the phases, which are as they will be."""
        state.last[:] = torch.from_numpy(self.last)
        state.fresh[:] = self._is_fresh(0)
        for i, arrays, layer in self._walk(state):
            row = self.operations[i]
            fresh = self._is_fresh(row[columns.LEVEL])
            if isinstance(layer, SkipState):
                layer.fresh[:] = fresh
                for steps, values in self._pooling(row, arrays, layer):
                    values.copy_(torch.from_numpy(steps))
            else:
                if layer.conv is not None:
                    layer.conv.fresh[:] = fresh
                if layer.recurrence is not None:
                    layer.recurrence.fresh[:] = fresh
                for part, values, which in self._block(i, arrays, layer):
                    values[..., which] = torch.from_numpy(part)

    def _zeros(self, *shape: int) -> np.ndarray:
        return aligned(shape, self.dtype)

    def _is_fresh(self, level: int) -> Tensor:
        return torch.from_numpy(self._fresh[level] != 0)

    def _place_states(self, levels: int) -> None:
        """Make the states and the x of all levels, and write their addresses into the operations."""
        widths = {int(row[columns.LEVEL]): int(row[columns.STRIDE]) for row in self.operations}
        self._x = [self._zeros(self.lanes, widths[level]) for level in range(levels)]
        for i, row in enumerate(self.operations):
            level = row[columns.LEVEL]
            row[columns.X] = address(self._x[level])
            if row[columns.KIND] == columns.BLOCK:
                arrays = (
                    self._zeros(self.lanes, int(row[columns.TAPS]) - 1, int(row[columns.ROWS])),
                    self._zeros(self.lanes, int(row[columns.PARTS] * row[columns.UNITS])),
                )
                row[columns.CONV_WINDOW], row[columns.H] = map(address, arrays)
                row[columns.FRESH] = address(self._fresh[level])
                self._states.append(arrays)
            elif row[columns.KIND] == columns.ENTER:
                groups, p, width = (int(row[c]) for c in (columns.GROUPS, columns.FACTOR, columns.GROUP_WIDTH))
                arrays = (self._zeros(self.lanes, groups, p, width), self._zeros(self.lanes, groups, padded(p * width)))
                self._states.append(arrays)
                for pooling in self.operations[i:]:
                    if pooling[columns.LEVEL] == level and pooling[columns.KIND] != columns.BLOCK:
                        pooling[columns.WINDOW], pooling[columns.RAISED] = map(address, arrays)
                        pooling[columns.INNER_X] = address(self._x[level + 1])
                        pooling[columns.INNER_FRESH] = address(self._fresh[level + 1])

    def _walk(self, state: ModelState) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray], Any]]:
        """The blocks and pooling levels in the order of the operations: its number, this worker's arrays, and the layer's state."""
        yield from zip(self._rows, self._states, _layers(state.levels), strict=True)

    def _block(
        self, i: int, arrays: tuple[np.ndarray, np.ndarray], state: BlockState
    ) -> Iterator[tuple[np.ndarray, Tensor, Tensor | slice]]:
        """This worker's parts of a block's state: as they stand here, the state, and which of its channels they are."""
        row = self.operations[i]
        if state.conv is not None:
            yield arrays[0], state.conv.window, self.tables.rows[i]
        if isinstance(state.recurrence, RecurrenceState):
            units = int(row[columns.UNITS])
            for part in range(row[columns.PARTS]):
                start = row[columns.UNIT] + part * row[columns.ALL_UNITS]
                yield arrays[1][:, part * units : (part + 1) * units], state.recurrence.h, slice(start, start + units)

    def _pooling(self, row: np.ndarray, arrays: tuple[np.ndarray, np.ndarray], state: SkipState) -> Iterator[tuple[np.ndarray, Tensor]]:
        """What counts of a pooling level's window, and of its results that are not yet due: as they stand here, and in the state."""
        phase, p, width = self.phases[row[columns.LEVEL]], int(row[columns.FACTOR]), int(row[columns.GROUP_WIDTH])
        window, raised = arrays
        groups, due = window.shape[1], state.pending.shape[1] - phase
        yield window[:, :, :phase].transpose(0, 2, 1, 3), state.window[:, :phase].unflatten(-1, (groups, width))
        steps = raised[:, :, : p * width].reshape(self.lanes, groups, p, width)[:, :, p - due :].transpose(0, 2, 1, 3)
        yield steps, state.pending[:, :due].unflatten(-1, (groups, width))


def _layers(state: State) -> Iterator[State]:
    if isinstance(state, SkipState):
        yield from state.pre.blocks  # type: ignore[attr-defined]
        yield state
        yield from _layers(state.inner)
        yield from state.post.blocks  # type: ignore[attr-defined]
    else:
        yield from state.blocks  # type: ignore[attr-defined]
