"""Steps a model on the CPU, one sample at a time, in code compiled for it."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.generation.cpu.packed_weights import Stored
from harmonicrnn.generation.cpu.tables import tables
from harmonicrnn.generation.cpu.worker import Shared, Worker
from harmonicrnn.generation.engine import knows_layers
from harmonicrnn.models import AutoregressiveNet, HarmonicRNN, ModelState, State
from harmonicrnn.models.skip_block import SkipState

MAX_THREADS = 4
"""Threads that share a layer unless told otherwise: more have little to do between waiting for one another."""

_DTYPES: dict[torch.dtype, np.dtype] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


class CPUEngine:
    """An `Engine` for models in float32 or float64 on the CPU.

    It keeps its own copy of the weights: changes of the model after it is made are not seen.

    Args:
        net: the model.
        stored: how weights are kept, "full" (as the model has them), "bfloat16" or "int8" (with a scale for each output).
        threads: how many to use; None for as many as torch uses, at most MAX_THREADS.

    Raises:
        ValueError: a model that there is no code for, is not on the CPU or in another type, or float64 with weights in fewer bits.
    """

    period = 1

    def __init__(self, net: AutoregressiveNet, stored: Stored = "full", threads: int | None = None) -> None:
        if not knows_layers(net):
            kind = net.parts.recurrence if isinstance(net, HarmonicRNN) else "none"
            raise ValueError(f"there is no compiled code for {type(net).__name__} with recurrence {kind}")
        weight = net.head.weight
        if weight.device.type != "cpu" or weight.dtype not in _DTYPES:
            raise ValueError(f"the CPU engine steps models in float32 or float64 on the CPU, not in {weight.dtype} on {weight.device}")
        if stored != "full" and weight.dtype != torch.float32:
            raise ValueError(f"weights are stored as {stored} only for models in float32, not in {weight.dtype}")
        available = len(os.sched_getaffinity(0))
        self.threads = min(torch.get_num_threads(), available, MAX_THREADS) if threads is None else threads
        self._tables = [tables(net, _DTYPES[weight.dtype], stored, rank, self.threads) for rank in range(self.threads)]
        self._workers: list[Worker] = []
        self._pool = ThreadPoolExecutor(max(1, self.threads - 1))

    def start(self, state: ModelState) -> None:
        lanes = len(state.last)
        if not self._workers or lanes != self._workers[0].lanes:
            shared = Shared(self._tables, lanes)
            self._workers = [Worker(tables, lanes, shared) for tables in self._tables]
        self._template = state.detach()
        for worker in self._workers:
            worker.load(self._template)

    def draw(self, uniforms: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
        classes, nats, _ = self._run(uniforms, temperature, top_p, None, False)
        return classes, nats

    def follow(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Step through given samples (B, n): their logits (B, n, q) and nats (B, n)."""
        _, nats, logits = self._run(torch.zeros(classes.shape, dtype=torch.float64), 1.0, 1.0, classes, True)
        return logits, nats

    def state(self) -> ModelState:
        """The state after the last sample, as the forward pass would have it."""
        self._check_started()
        blank = self._template.map(torch.zeros_like)
        state = replace(blank, levels=_with_phases(blank.levels, list(self._workers[0].phases)))
        for worker in self._workers:
            worker.store(state)
        return state

    def _run(
        self, uniforms: Tensor, temperature: float, top_p: float, forced: Tensor | None, logits: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        self._check_started()
        uniforms = uniforms.to("cpu", torch.float64)
        arguments = (uniforms, float(temperature), float(top_p), forced, logits)
        others = [self._pool.submit(worker.run, *arguments) for worker in self._workers[1:]]
        classes, nats, kept = map(torch.from_numpy, self._workers[0].run(*arguments))
        for other in others:
            other.result()
        return classes, nats, kept

    def _check_started(self) -> None:
        if not self._workers:
            raise RuntimeError("an engine draws only after it was given a state to start from")


def _with_phases(state: State, phases: list[int]) -> State:
    if not isinstance(state, SkipState):
        return state
    return replace(state, phase=int(phases[0]), inner=_with_phases(state.inner, phases[1:]))
