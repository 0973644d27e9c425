"""Rows of `benchmarks.gpu`: the fused CG-LRU against the copy bandwidth, and the recurrence against other implementations of it."""

import statistics
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_timing import check, copy_bandwidth, row, seconds_of
from harmonicrnn.ops import cg_lru, linear_scan
from harmonicrnn.ops.cg_lru import C

FORWARD, BOTH = 3, 9  # needed bytes, in units of one (B, T, D) tensor
LIMITS = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (6e-3, 1.2e-2)}


def inputs_of(batch: int, time: int, width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """x, gates, decay and phase of a CG-LRU at its initialisation, all with gradients."""
    torch.manual_seed(0)
    units = width // 2
    x, gates = (torch.randn(batch, time, width, device=device).to(dtype) for _ in range(2))
    moduli = torch.rand(units, device=device) * 0.099 + 0.9
    decay, phase = torch.log(torch.expm1(-moduli.log())), torch.rand(units, device=device) * 0.3
    return tuple(t.requires_grad_() for t in (x, gates, decay, phase))


def forward_and_backward(function: Callable[..., Any], inputs: tuple[Tensor, ...], weights: Tensor) -> tuple[Tensor, ...]:
    y = function(*inputs)[0]
    return (y, *torch.autograd.grad(y, inputs, weights))


def fused_rows(batch: int, time: int, width: int, dtype: torch.dtype, device: torch.device, repeats: int) -> Iterator[str]:
    """Forward, and forward + backward, in bytes needed against the copy of as many."""
    inputs = inputs_of(batch, time, width, dtype, device)
    weights = torch.randn(batch, time, width, device=device).to(dtype)
    name = f"fused CG-LRU B={batch} T={time:,} D={width} {str(dtype)[6:]}"
    found = forward_and_backward(cg_lru, inputs, weights)
    sums = [torch.zeros_like(t, dtype=torch.float64) for t in inputs[2:]]
    for lane in range(batch):
        # In float64, one lane at a time for the memory; what is summed over lanes is checked by its sum below.
        wide = tuple(t.detach()[lane : lane + 1].double().requires_grad_() for t in inputs[:2])
        wide += tuple(t.detach().double().requires_grad_() for t in inputs[2:])
        lane_weights = weights[lane : lane + 1].double()
        expected = forward_and_backward(lambda *given: cg_lru(*given, implementation="reference"), wide, lane_weights)
        forward_limit, limit = LIMITS[dtype]
        check(name, [t[lane : lane + 1].double() for t in found[:3]], expected[:3], [forward_limit, limit, limit])
        sums = [total + part for total, part in zip(sums, expected[3:], strict=True)]
    check(name, [t.double() for t in found[3:]], sums, [LIMITS[dtype][1]] * 2)
    del found, expected, wide

    unit = inputs[0].numel() * inputs[0].element_size()
    copy = copy_bandwidth(device, unit, repeats)
    with torch.no_grad():
        forward = seconds_of(lambda: cg_lru(*inputs), device, repeats)
    both = seconds_of(lambda: forward_and_backward(cg_lru, inputs, weights), device, repeats)
    for what, seconds, units, goal in (("forward", forward, FORWARD, 0.55), ("forward + backward", both, BOTH, 0.6)):
        rate = units * unit / statistics.median(seconds)
        notes = f"{rate / 1e9:,.0f} GB/s of needed bytes, {rate / copy:.1%} of the copy ({copy / 1e9:,.0f} GB/s)", f"goal {goal:.0%}"
        yield row(f"{name} {what}", seconds, *notes, f"floor {units * unit / copy * 1e3:.3f} ms")


def plain_rows(batch: int, time: int, width: int, device: torch.device, repeats: int) -> Iterator[str]:
    """The fused form against the plain path, forward + backward in float32."""
    inputs = inputs_of(batch, time, width, torch.float32, device)
    weights = torch.randn(batch, time, width, device=device)

    def plain(*given: Tensor) -> Any:
        return cg_lru(*given, implementation="reference")

    found, expected = (forward_and_backward(function, inputs, weights) for function in (cg_lru, plain))
    check("plain path", found, expected, [1e-4] * 5)
    del found, expected
    yield from compared("plain path", plain, cg_lru, inputs, weights, device, repeats, goal=10)


def associative_scan_rows(batch: int, time: int, width: int, device: torch.device, repeats: int) -> Iterator[str]:
    """The fused form against torch's associative_scan with the gates around it, all compiled by torch: forward alone."""
    from torch._higher_order_ops.associative_scan import associative_scan

    inputs = inputs_of(batch, time, width, torch.float32, device)
    pointwise = "pointwise" if device.type == "cuda" else "generic"

    def combine(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (ar, ai, xr, xi), (br, bi, yr, yi) = left, right
        return ar * br - ai * bi, ar * bi + ai * br, br * xr - bi * xi + yr, br * xi + bi * xr + yi

    def scanned(x: Tensor, gates: Tensor, decay: Tensor, phase: Tensor) -> tuple[Tensor]:
        r, i = torch.sigmoid(gates).chunk(2, dim=-1)
        log_modulus = r * (-C * F.softplus(decay))
        modulus, angle = log_modulus.exp(), r * phase
        factor = torch.sqrt(-torch.expm1(2 * log_modulus))
        factor = torch.cat([torch.ones_like(factor[:, :1]), factor[:, 1:]], dim=1) * i
        real, imaginary = x.chunk(2, dim=-1)
        steps = modulus * angle.cos(), modulus * angle.sin(), factor * real, factor * imaginary
        _, _, hr, hi = associative_scan(combine, tuple(t.contiguous() for t in steps), dim=1, combine_mode=pointwise)
        return (torch.cat([hr, hi], dim=-1),)

    compiled = torch.compile(scanned) if device.type == "cuda" else scanned
    with torch.no_grad():
        check("associative_scan", cg_lru(*inputs)[:1], compiled(*inputs), [1e-4])
        yield from compared("associative_scan, compiled", compiled, cg_lru, inputs, None, device, repeats, goal=2)


def accelerated_scan_rows(batch: int, time: int, units: int, device: torch.device, repeats: int) -> Iterator[str]:
    """The plain complex scan against the package accelerated-scan's, each in its own layout; transposes are not timed."""
    if find_spec("accelerated_scan") is None:
        yield "accelerated-scan                                               not installed: not compared"
        return
    from accelerated_scan.complex import scan

    torch.manual_seed(0)
    a = torch.polar(torch.rand(batch, time, units, device=device) * 0.9999, torch.rand(batch, time, units, device=device))
    x = torch.randn(batch, time, units, dtype=torch.complex64, device=device)
    weights = torch.randn_like(x)
    ours = tuple(t.requires_grad_() for t in (a, x))
    theirs = tuple(t.detach().transpose(1, 2).contiguous().requires_grad_() for t in (a, x))

    def other(*given: Tensor) -> tuple[Tensor]:
        return (scan(*given),)

    their_weights = weights.transpose(1, 2).contiguous()
    found = forward_and_backward(linear_scan, ours, weights)
    expected = forward_and_backward(other, theirs, their_weights)
    check("accelerated-scan", found, [t.transpose(1, 2) for t in expected], [1e-4] * 3)
    del found, expected
    own = seconds_of(lambda: forward_and_backward(linear_scan, ours, weights), device, repeats)
    seconds = seconds_of(lambda: forward_and_backward(other, theirs, their_weights), device, repeats)
    yield row("complex scan, forward + backward", own)
    yield row("accelerated-scan", seconds, ratio(seconds, own, 1.5))


def compared(
    name: str,
    other: Callable[..., Any],
    own: Callable[..., Any],
    inputs: tuple[Tensor, ...],
    weights: Tensor | None,
    device: torch.device,
    repeats: int,
    goal: float,
) -> Iterator[str]:
    """Both timed on the same work, forward alone where there are no weights for a backward pass."""
    times = []
    for function in (own, other):
        if weights is None:
            times.append(seconds_of(lambda function=function: function(*inputs), device, repeats))
        else:
            times.append(seconds_of(lambda function=function: forward_and_backward(function, inputs, weights), device, repeats))
    what = "forward" if weights is None else "forward + backward"
    yield row(f"fused CG-LRU, {what}, float32", times[0])
    yield row(name, times[1], ratio(times[1], times[0], goal))


def ratio(other: list[float], own: list[float], goal: float) -> str:
    return f"{statistics.median(other) / statistics.median(own):.2f} times ours, goal {goal:g}"
