"""Rows of `benchmarks.gpu`: the constants of the kernels, each varied alone, after the results were found to stay the same."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Tensor

from benchmarks.gpu_neighbours import LIMITS, NEIGHBOURS, gradients, outputs
from benchmarks.gpu_recurrence import forward_and_backward, inputs_of
from benchmarks.gpu_timing import check, row, seconds_of
from harmonicrnn.ops import cg_lru, linear_scan

WIDTH = 128
Work = Callable[[int, torch.device], Callable[[], tuple[Tensor, ...]]]
"""Of so many steps on a device: a function that returns outputs and gradients."""


def recurrence(time: int, device: torch.device) -> Callable[[], tuple[Tensor, ...]]:
    inputs = inputs_of(1, time, WIDTH, torch.bfloat16, device)
    weights = torch.randn_like(inputs[0])
    return lambda: forward_and_backward(cg_lru, inputs, weights)


def plain_scan(time: int, device: torch.device) -> Callable[[], tuple[Tensor, ...]]:
    torch.manual_seed(0)
    inputs = tuple((0.6 * torch.rand(1, time, WIDTH, 2, device=device)).bfloat16().requires_grad_() for _ in range(2))
    weights = torch.randn_like(inputs[0])
    return lambda: forward_and_backward(linear_scan, inputs, weights)


def neighbour(name: str) -> Work:
    (found,) = (n for n in NEIGHBOURS if n.name == name)

    def work(time: int, device: torch.device) -> Callable[[], tuple[Tensor, ...]]:
        torch.manual_seed(0)
        inputs = tuple(t.requires_grad_() for t in found.inputs(time, device))
        weights = tuple(torch.randn_like(t) for t in outputs(found.used(*inputs)))

        def both() -> tuple[Tensor, ...]:
            y = outputs(found.used(*inputs))
            return *y, *gradients(y, inputs, weights)

        return both

    return work


@dataclass(frozen=True)
class Constant:
    """One of a module's in `harmonicrnn.ops.triton`, what it is to be, and work that depends on it."""

    module: str
    name: str
    values: tuple[int, ...]
    work: Work


CONSTANTS = (
    Constant("chunks", "LANES_OF_WORK", (2**17, 2**18, 2**19, 2**20), recurrence),
    Constant("chunks", "MIN_CHUNK", (16, 32, 64), recurrence),
    Constant("chunks", "UNDIVIDED", (32, 64, 128), recurrence),
    Constant("chunks", "FUSED_ROWS", (2, 4, 8, 16), recurrence),
    Constant("chunks", "BACKWARD_ROWS", (1, 2, 4, 8), recurrence),
    Constant("chunks", "GIVEN_ROWS", (8, 16, 32), plain_scan),
    Constant("chunks", "MAX_BLOCK", (32, 64), recurrence),
    Constant("neighbour_launches", "STEPS", (64, 128, 256, 512), neighbour("causal convolution")),
    Constant("neighbour_launches", "ROWS", (4, 8, 16), neighbour("causal convolution")),
    Constant("neighbour_launches", "MAX_CHANNELS", (32, 64), neighbour("causal convolution")),
    Constant("neighbour_launches", "GELU_BLOCK", (512, 1024, 2048), neighbour("gated GELU")),
    Constant("norm", "NUMBERS", (1024, 2048, 4096), neighbour("sum and RMSNorm")),
    Constant("norm", "TURNS", (4, 16, 64), neighbour("sum and RMSNorm")),
    Constant("norm", "WARPS", (2, 4, 8), neighbour("sum and RMSNorm")),
    Constant("mlp", "ROWS", (64, 128), neighbour("gated MLP")),
    Constant("mlp", "HIDDEN", (32, 64), neighbour("gated MLP")),
    Constant("mlp", "BACKWARD_HIDDEN", (32, 64), neighbour("gated MLP")),
    Constant("mlp", "WARPS", (4, 8), neighbour("gated MLP")),
)


def tuning_rows(constant: Constant, value: int, time: int, device: torch.device, repeats: int) -> Iterator[str]:
    """Forward + backward with one constant changed."""
    module = import_module(f"harmonicrnn.ops.triton.{constant.module}")  # here, so that triton is loaded only where it computes
    both, before = constant.work(time, device), getattr(module, constant.name)
    expected, what = both(), f"{constant.module}.{constant.name} = {value:,}"
    usual = statistics.median(seconds_of(both, device, repeats))
    setattr(module, constant.name, value)
    try:
        check(what, both(), expected, [LIMITS[0], *[LIMITS[1]] * (len(expected) - 1)])
        seconds = seconds_of(both, device, repeats)
        yield row(what, seconds, f"{statistics.median(seconds) / usual:.3f} of the time with {before:,}")
    finally:
        setattr(module, constant.name, before)
