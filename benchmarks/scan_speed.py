"""The CPU's complex scan against the machine's own copy, in bytes a second.

    OMP_NUM_THREADS=1 python -m benchmarks.scan_speed [--samples N] [--units N] [--repeats N]

Needed bytes, in units of one (1, T, N) complex64 tensor: forward 3 (a and x read, h written), forward + backward 8 (and a, h and the
gradient of h read, two gradients written), summary 2. A copy of as many bytes as the forward needs, half read and half written, is timed
in turn with each of them. The goal is a forward at 60 % of the copy or more. Before any timing the scan is held against the float64
reference at these very sizes.
"""

import statistics

import torch
from jsonargparse.typing import PositiveInt

from benchmarks.timing import benchmark, by_turns, header, show
from benchmarks.training_speed import check_recurrence
from harmonicrnn.ops import linear_scan, linear_scan_summary

GOAL = 0.6


def scan(samples: PositiveInt = 16_000, units: PositiveInt = 64, repeats: PositiveInt = 41) -> None:
    """Checks, then times.

    Args:
        samples: T, steps of the scan.
        units: N, complex units.
        repeats: Timed rounds, after one that warms up.
    """
    torch.manual_seed(0)
    check_recurrence(samples, units)
    a = torch.polar(torch.rand(1, samples, units) * 0.9999, torch.rand(1, samples, units)).requires_grad_()
    x, weights = (torch.randn(1, samples, units, dtype=torch.complex64) for _ in range(2))
    x.requires_grad_()
    unit = a.numel() * a.element_size()
    source, target = torch.randn(2, 3 * unit // 8)
    cases = {
        "copy": (lambda: target.copy_(source), 3 * unit),
        "forward": (torch.no_grad()(lambda: linear_scan(a, x)), 3 * unit),
        "forward + backward": (lambda: torch.autograd.grad(linear_scan(a, x)[0], (a, x), weights), 8 * unit),
        "summary": (lambda: linear_scan_summary(a.detach(), x.detach()), 2 * unit),
    }
    header("numba")
    print(f"scan     1 x {samples:,} x {units} complex64, {repeats} repeats")
    timed = by_turns({name: function for name, (function, _) in cases.items()}, repeats)
    rates = {name: [cases[name][1] / s / 1e9 for s in seconds] for name, seconds in timed.items()}
    for name, rate in rates.items():
        median, best = (reduced(rate) / reduced(rates["copy"]) for reduced in (statistics.median, max))
        goal = ", goal {:.0%}: {}".format(GOAL, "met" if min(median, best) >= GOAL else "missed") if name == "forward" else ""
        show(name, rate, "GB/s", f"{median:.0%} of the copy by medians, {best:.0%} by the highest{goal}", digits=1)


if __name__ == "__main__":
    raise SystemExit(benchmark(scan))
