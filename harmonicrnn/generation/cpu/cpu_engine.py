"""CPUEngine, which steps a model on the CPU in compiled code, one sample at a time."""

import os
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from harmonicrnn.generation.cpu.layers import LAYERS
from harmonicrnn.generation.cpu.operation import Share, Team
from harmonicrnn.generation.cpu.products import Products, Stored
from harmonicrnn.generation.cpu.worker import Worker
from harmonicrnn.generation.cpu.worker_program import Program
from harmonicrnn.generation.engine import NOT_STARTED
from harmonicrnn.generation.self_check import EngineError, check, weights_of
from harmonicrnn.models import AutoregressiveNet, ModelState, State
from harmonicrnn.models.harmonic_rnn import PredictedState
from harmonicrnn.models.skip_block import SkipState

MAX_THREADS = 4
"""Default limit of threads that share a layer: more spend most of their time waiting for one another."""

LIMITS: dict[Stored, float] = {"full": 1e-5, "bfloat16": 1e-4, "int8": 1e-4}
"""Allowed difference of logits from the forward pass's, relative to the largest; int8 also rounds inputs to 24 bits."""

_DTYPES: dict[torch.dtype, np.dtype] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


class CPUEngine:
    """An `Engine` for models in float32 or float64 on the CPU.

    It copies the weights: later changes of the model have no effect. Before its first use it is compared with the model's forward pass.

    Args:
        net: the model.
        stored: storage of weights: "full" (the model's dtype), "bfloat16" or "int8" (with a scale per output).
        threads: how many to use; None for as many as torch uses, at most MAX_THREADS.

    Raises:
        EngineError: fewer than one thread; a layer without compiled code; a model that is not on the CPU or has another dtype; float64 with
            weights in fewer bits; or logits that differ from the forward pass's.
    """

    period = 1

    def __init__(self, net: AutoregressiveNet, stored: Stored = "full", threads: int | None = None) -> None:
        weight = next(net.parameters())
        if weight.device.type != "cpu" or weight.dtype not in _DTYPES:
            raise EngineError(f"the CPU engine steps models in float32 or float64 on the CPU, not in {weight.dtype} on {weight.device}")
        if stored != "full" and weight.dtype != torch.float32:
            raise EngineError(f"weights are stored as {stored} only for models in float32, not in {weight.dtype}")
        if threads is not None and threads < 1:
            raise EngineError(f"threads must be at least 1, got {threads}")
        available, dtype = available_cores(), _DTYPES[weight.dtype]
        self.threads = min(torch.get_num_threads(), available, MAX_THREADS) if threads is None else threads
        self._pool = ThreadPoolExecutor(max(1, self.threads - 1))
        self._team, self._classes = Team(self.threads, dtype, net.classes), net.classes
        self._template: ModelState | None = None
        how = f"CPU engine with {stored} weights and {self.threads} threads", weights_of(net), self._draw_from, LIMITS[stored]
        with torch.no_grad():
            shares = (Share(rank, self._team, dtype, Products(dtype, stored)) for rank in range(self.threads))
            own = _copy(net)
            self._workers = [Worker(Program(own, share, LAYERS)) for share in shares]
        check(net, *how, own if stored != "full" else None)
        self._template = None

    def start(self, state: ModelState) -> None:
        lanes = len(state.last)
        if self._template is None or lanes != len(self._template.last):
            self._team.begin(lanes)
            for worker in self._workers:
                worker.begin(lanes, self._classes)
        self._template = state.detach()
        for worker in self._workers:
            worker.load(self._template)

    def draw(self, uniforms: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
        classes, nats, _ = self._run(uniforms, temperature, top_p, None, False)
        return classes, nats

    def follow(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Steps through given samples (B, n); returns their logits (B, n, q) and nats (B, n)."""
        _, nats, logits = self._run(torch.zeros(classes.shape, dtype=torch.float64), 1.0, 1.0, classes, True)
        return logits, nats

    def state(self) -> ModelState:
        """Returns the state after the last sample, equal to the forward pass's."""
        blank = self._started().map(torch.zeros_like)
        state = replace(blank, levels=_with_phases(blank.levels, self._workers[0].phases))
        for worker in self._workers:
            worker.store(state)
        return state

    def _draw_from(self, state: ModelState, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        self.start(state)
        classes, _, logits = self._run(uniforms, temperature, 1.0, None, True)
        return classes, logits

    def _run(
        self, uniforms: Tensor, temperature: float, top_p: float, forced: Tensor | None, logits: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        self._started()
        uniforms = uniforms.to("cpu", torch.float64)
        arguments = (uniforms, float(temperature), float(top_p), forced, logits)
        others = [self._pool.submit(worker.run, *arguments) for worker in self._workers[1:]]
        classes, nats, kept = map(torch.from_numpy, self._workers[0].run(*arguments))
        for other in others:
            other.result()
        return classes, nats, kept

    def _started(self) -> ModelState:
        if self._template is None:
            raise RuntimeError(NOT_STARTED)
        return self._template


def available_cores() -> int:
    """Returns the number of cores available to this process (Linux), else of all cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _with_phases(state: State, phases: list[int]) -> State:
    if isinstance(state, PredictedState):
        return replace(state, levels=_with_phases(state.levels, phases))
    if not isinstance(state, SkipState):
        return state
    return replace(state, phase=phases[0], inner=_with_phases(state.inner, phases[1:]))


def _copy(net: AutoregressiveNet) -> AutoregressiveNet:
    """The model with copies of its parameters, which may be changed in place; one that several layers share is copied for each."""
    try:
        copy = deepcopy(net, {id(parameter): parameter for parameter in net.parameters()})
    except Exception as error:  # a lock among a module's attributes, say
        raise EngineError(f"the model cannot be copied: {error}") from error
    for module in copy.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.clone(), requires_grad=False))
    return copy
