"""Cases of `benchmarks.gpu` for the recurrence.

The fused CG-LRU against the copy bandwidth, the recurrence against other implementations, and the constants of its kernels, varied one at a
time.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import by_turns, check, ratio, show
from harmonicrnn.ops import cg_lru, linear_scan
from harmonicrnn.ops.cg_lru import C

NEEDED = {"forward": (3, 0.55), "forward + backward": (9, 0.6)}
"""Bytes read and written, in units of one (B, T, D) tensor, and the goal as a share of the copy bandwidth."""

LIMITS = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (6e-3, 1.2e-2)}
CONSTANTS = {
    "LANES_OF_WORK": ("fused", (2**17, 2**18, 2**19, 2**20)),
    "MIN_CHUNK": ("fused", (16, 32, 64)),
    "UNDIVIDED": ("fused", (32, 64, 128)),
    "FUSED_ROWS": ("fused", (2, 4, 8, 16)),
    "BACKWARD_ROWS": ("fused", (1, 2, 4, 8)),
    "GIVEN_ROWS": ("plain", (8, 16, 32)),
    "MAX_BLOCK": ("fused", (32, 64)),
}
"""Constants of `harmonicrnn.ops.triton.chunks`, with the scan that depends on each and the values to try."""


def inputs_of(batch: int, time: int, width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Returns x, gates, decay and phase of a CG-LRU at initialisation, all requiring gradients."""
    torch.manual_seed(0)
    units = width // 2
    x, gates = (torch.randn(batch, time, width, device=device).to(dtype) for _ in range(2))
    moduli = torch.rand(units, device=device) * 0.099 + 0.9
    decay, phase = torch.log(torch.expm1(-moduli.log())), torch.rand(units, device=device) * 0.3
    return tuple(t.requires_grad_() for t in (x, gates, decay, phase))


def forward_and_backward(function: Callable[..., Any], inputs: tuple[Tensor, ...], weights: Tensor) -> tuple[Tensor, ...]:
    """Returns the output and the gradients of the inputs."""
    y = function(*inputs)[0]
    return (y, *torch.autograd.grad(y, inputs, weights))


def plain(*given: Tensor) -> Any:
    """The CG-LRU by tensor operations."""
    return cg_lru(*given, implementation="reference")


def fused(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device, repeats: int) -> None:
    """Times forward, and forward + backward, as a share of the bandwidth of a copy."""
    inputs = inputs_of(*shape, dtype, device)
    weights = torch.randn(*shape, device=device).to(dtype)
    name = "fused CG-LRU {} x {:,} x {} ".format(*shape) + str(dtype)[6:]
    check_fused(name, inputs, weights)
    unit = inputs[0].numel() * inputs[0].element_size()
    source = torch.zeros(unit // 4, device=device)
    target = torch.empty_like(source)
    cases: dict[str, Callable[[], object]] = {
        "copy": lambda: target.copy_(source),
        "forward": torch.no_grad()(lambda: cg_lru(*inputs)),
        "forward + backward": lambda: forward_and_backward(cg_lru, inputs, weights),
    }
    seconds = by_turns(cases, repeats, device, warm_up=3)
    copy = 2 * unit / show(f"copy of {unit / 1e6:,.0f} MB", seconds["copy"], "s", digits=6)
    for what, (units, goal) in NEEDED.items():
        rates = [units * unit / each / 1e9 for each in seconds[what]]
        share = f"{sum(rates) / len(rates) * 1e9 / copy:.1%} of the copy ({copy / 1e9:,.0f} GB/s), goal {goal:.0%}"
        show(f"{name} {what}", [1e3 * each for each in seconds[what]], "ms", share, digits=3)


def check_fused(name: str, inputs: tuple[Tensor, ...], weights: Tensor) -> None:
    """Checks the fused form against float64, one lane at a time to save memory.

    Raises:
        UnequalError: If outputs or gradients differ.
    """
    found, limits = forward_and_backward(cg_lru, inputs, weights), LIMITS[inputs[0].dtype]
    sums = [torch.zeros_like(t, dtype=torch.float64) for t in inputs[2:]]
    for lane in range(len(weights)):
        wide = tuple(t.detach()[lane : lane + 1].double().requires_grad_() for t in inputs[:2])
        wide += tuple(t.detach().double().requires_grad_() for t in inputs[2:])
        expected = forward_and_backward(plain, wide, weights[lane : lane + 1].double())
        check(name, [t[lane : lane + 1].double() for t in found[:3]], expected[:3], (limits[0], limits[1], limits[1]))
        sums = [total + part for total, part in zip(sums, expected[3:], strict=True)]
    check(name, [t.double() for t in found[3:]], sums, limits[1])


def against_plain(time: int, device: torch.device, repeats: int, width: int = 128) -> None:
    """Compares the fused form with tensor operations: forward + backward in float32."""
    inputs, weights = inputs_of(1, time, width, torch.float32, device), torch.randn(1, time, width, device=device)
    ours, theirs = (lambda of=of: forward_and_backward(of, inputs, weights) for of in (cg_lru, plain))
    compared("plain path", ours, theirs, device, repeats, goal=10)


def against_associative_scan(time: int, device: torch.device, repeats: int, width: int = 128) -> None:
    """Compares the fused form with gates and torch's associative_scan compiled by torch: forward only, in float32."""
    from torch._higher_order_ops.associative_scan import associative_scan

    inputs = inputs_of(1, time, width, torch.float32, device)
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
    ours, theirs = (torch.no_grad()(call) for call in (lambda: cg_lru(*inputs)[:1], lambda: compiled(*inputs)))
    compared("associative_scan, compiled", ours, theirs, device, repeats, goal=2, passes="forward")


def against_accelerated_scan(time: int, device: torch.device, repeats: int, units: int = 64) -> None:
    """Compares the complex scan with that of the package accelerated-scan, each in its own layout, without timing the transposes."""
    if find_spec("accelerated_scan") is None:
        print("accelerated-scan: not installed, not compared")
        return
    from accelerated_scan.complex import scan

    torch.manual_seed(0)
    a = torch.polar(torch.rand(1, time, units, device=device) * 0.9999, torch.rand(1, time, units, device=device))
    x, weights = (torch.randn(1, time, units, dtype=torch.complex64, device=device) for _ in range(2))
    own = tuple(t.requires_grad_() for t in (a, x))
    *turned, turned_weights = (t.detach().transpose(1, 2).contiguous() for t in (a, x, weights))  # time last
    others = tuple(t.requires_grad_() for t in turned)

    def theirs() -> tuple[Tensor, ...]:
        return tuple(t.transpose(1, 2) for t in forward_and_backward(lambda *given: (scan(*given),), others, turned_weights))

    compared("accelerated-scan", lambda: forward_and_backward(linear_scan, own, weights), theirs, device, repeats, goal=1.5)


def compared(
    name: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    device: torch.device,
    repeats: int,
    goal: float,
    passes: str = "forward + backward",
) -> None:
    """Times two implementations in turn; raises UnequalError if their results differ."""
    check(name, ours(), theirs(), 1e-4)
    seconds = by_turns({"ours": ours, name: theirs}, repeats, device, warm_up=3)
    times = f"{ratio(seconds[name], seconds['ours']):.2f} times ours, goal {goal:g}"
    for each, notes in (("ours", ()), (name, (times,))):
        show(f"{each}, {passes}, float32", [1e3 * s for s in seconds[each]], "ms", *notes, digits=3)


def tuning(constant: str, value: int, time: int, device: torch.device, repeats: int, width: int = 128) -> None:
    """Times forward + backward in bfloat16 with one constant changed; raises UnequalError if the results change."""
    module = import_module("harmonicrnn.ops.triton.chunks")  # imported here, so that triton is only loaded if used
    inputs, function = inputs_of(1, time, width, torch.bfloat16, device), cg_lru
    if CONSTANTS[constant][0] == "plain":
        inputs = tuple((0.6 * torch.rand(1, time, width, 2, device=device)).bfloat16().requires_grad_() for _ in range(2))
        function = linear_scan
    weights, before = torch.randn_like(inputs[0]), getattr(module, constant)

    def with_value(given: int) -> tuple[Tensor, ...]:
        setattr(module, constant, given)
        try:
            return forward_and_backward(function, inputs, weights)
        finally:
            setattr(module, constant, before)

    expected, limits = with_value(before), LIMITS[torch.bfloat16]
    check(f"{constant} = {value:,}", with_value(value), expected, (limits[0], *[limits[1]] * (len(expected) - 1)))
    seconds = by_turns({"before": lambda: with_value(before), "now": lambda: with_value(value)}, repeats, device, warm_up=3)
    share = f"{ratio(seconds['now'], seconds['before']):.3f} of the time with {before:,}"
    show(f"{constant} = {value:,}", [1e3 * s for s in seconds["now"]], "ms", share, digits=3)
