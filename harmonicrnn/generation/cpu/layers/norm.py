"""LayerNorm and RMSNorm as steps of the CPU engine, with weights and biases folded into the following products."""

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from harmonicrnn.generation.cpu.addresses import WORKER, Place, layout
from harmonicrnn.generation.cpu.llvm import record, view
from harmonicrnn.generation.cpu.operation import Operation, Share
from harmonicrnn.machine_code import kept
from harmonicrnn.models.block import LayerNorm, RMSNorm
from harmonicrnn.ops.elementary import like

NORM = layout("source", "source_stride", "target", "target_stride", "width", "centred", epsilon="f8")


@torch.no_grad()
def fold(norm: LayerNorm | RMSNorm, *layers: nn.Linear) -> None:
    """Folds a norm's weights and biases into the layers after it, in place."""
    bias: Tensor | None = norm.bias if isinstance(norm, LayerNorm) else None
    for layer in layers:
        if bias is not None:
            layer.bias.add_(layer.weight @ bias)
        layer.weight *= norm.weight
    nn.init.ones_(norm.weight)
    if bias is not None:
        nn.init.zeros_(bias)


# Reassociation lets these sums be vectorised.
@njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _mean_square(x: Any, tag: Any) -> Any:
    total = like(0, tag)
    for i in range(len(x)):
        total += x[i] * x[i]
    return total / like(len(x), tag)


@njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _mean(x: Any, tag: Any) -> Any:
    total = like(0, tag)
    for i in range(len(x)):
        total += x[i]
    return total / like(len(x), tag)


@kept
def _normalise(tag: Any, at: Any, worker: Any) -> Any:
    o, me = record(at, NORM), record(worker, WORKER)
    for lane in range(me.lanes):
        source, target = view(o.source, lane * o.source_stride, o.width, tag), view(o.target, lane * o.target_stride, o.width, tag)
        mean = _mean(source, tag) if o.centred else like(0, tag)
        for i in range(len(source)):
            target[i] = source[i] - mean
        factor = like(1, tag) / np.sqrt(_mean_square(target, tag) + like(o.epsilon, tag))
        for i in range(len(target)):
            target[i] *= factor
    return np.int64(0)


class NormStep(Operation):
    """target = x / rms(x); LayerNorm subtracts the mean of x first."""

    layout, step = NORM, staticmethod(_normalise)

    def __init__(self, share: Share, norm: LayerNorm | RMSNorm, width: int, source: Place, target: Place) -> None:
        centred = isinstance(norm, LayerNorm)
        super().__init__(share, source=source, target=target, width=width, centred=centred, epsilon=norm.eps or 0.0)
        target.room.need(target.start + width)
