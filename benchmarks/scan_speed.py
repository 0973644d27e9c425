"""The CPU's complex scan against the machine's own copy, in bytes a second.

    python -m benchmarks.scan_speed [--samples N] [--units N] [--repeats N]

Needed bytes, in units of one (1, T, N) complex64 tensor: forward 3 (a and x read, h written), forward + backward 8 (and a, h and the
gradient of h read, two gradients written), summary 2. A copy of as many bytes as the forward needs, half read and half written, is timed
in turn with each of them, so that whatever else the machine does slows all alike. The goal is a forward at 60 % of the copy or more.
Before any timing the scan is held against the float64 reference at these very sizes.
"""

import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import torch
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt

from benchmarks.training_speed import check_recurrence, processor
from harmonicrnn.ops import linear_scan, linear_scan_summary
from harmonicrnn.provenance import code_version

GOAL = 0.6


def main(samples: PositiveInt = 16_000, units: PositiveInt = 64, repeats: PositiveInt = 41) -> None:
    """Checks, then times.

    Args:
        samples: T, steps of the scan.
        units: N, complex units.
        repeats: Timed rounds, after one that warms up.
    """
    torch.manual_seed(0)
    check_recurrence(samples, units)
    a = torch.polar(torch.rand(1, samples, units) * 0.9999, torch.rand(1, samples, units)).requires_grad_()
    x = torch.randn(1, samples, units, dtype=torch.complex64, requires_grad=True)
    weights = torch.randn(1, samples, units, dtype=torch.complex64)
    unit = a.numel() * a.element_size()
    source, target = torch.randn(2, 3 * unit // 8)

    def forward() -> None:
        with torch.no_grad():
            linear_scan(a, x)

    def both() -> None:
        torch.autograd.grad(linear_scan(a, x)[0], (a, x), weights)

    cases: dict[str, tuple[Callable[[], object], int]] = {
        "copy": (lambda: target.copy_(source), 3 * unit),
        "forward": (forward, 3 * unit),
        "forward + backward": (both, 8 * unit),
        "summary": (lambda: linear_scan_summary(a.detach(), x.detach()), 2 * unit),
    }
    print(f"device   {processor()}, {torch.get_num_threads()} threads")
    print(f"versions torch {torch.__version__}, numba {version('numba')}, python {platform.python_version()}, commit {code_version()}")
    print(f"scan     1 x {samples:,} x {units} complex64, {repeats} repeats; median (lowest, highest)")
    rates = {
        name: [size / s / 1e9 for s in seconds] for (name, (_, size)), seconds in zip(cases.items(), in_turn(cases, repeats), strict=True)
    }
    shares = {}
    for name, rate in rates.items():
        median, best = (reduced(rate) / reduced(rates["copy"]) for reduced in (statistics.median, max))
        shares[name] = min(median, best)
        spread = f"{statistics.median(rate):6.1f} GB/s ({min(rate):.1f}, {max(rate):.1f})"
        print(f"{name:20s} {spread}, {median:.0%} of the copy by medians, {best:.0%} by the highest")
    print(f"goal     forward at {GOAL:.0%} of the copy by both: {'met' if shares['forward'] >= GOAL else 'missed'}")


def in_turn(cases: dict[str, tuple[Callable[[], object], int]], repeats: int) -> list[list[float]]:
    """Seconds of each case's repeats, the cases taking turns, after one round that warms up."""
    seconds: list[list[float]] = [[] for _ in cases]
    for i in range(repeats + 1):
        for case, (function, _) in zip(seconds, cases.values(), strict=True):
            started = time.perf_counter()
            function()
            if i:
                case.append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    auto_cli(main)
