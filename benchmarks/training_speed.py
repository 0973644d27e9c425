"""Samples per second of forward and of forward + backward, one clip, float32, and the recurrence's share of it.

    python -m benchmarks.training_speed [--samples N] [--repeats N]

Before any timing the case itself is checked: the recurrence against the float64 reference in output and gradients at these very sizes, and
the model in pieces against the model in one pass.
"""

import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt

from harmonicrnn.models import GatedRecurrence, HarmonicRNN, sample_nats
from harmonicrnn.ops import cg_lru, linear_scan
from harmonicrnn.ops.reference import linear_scan_reference
from harmonicrnn.provenance import code_version


def main(samples: PositiveInt = 16_000, repeats: PositiveInt = 7) -> None:
    """Checks, then times the default model.

    Args:
        samples: Length of the clip.
        repeats: Timed passes, after one that warms up.
    """
    torch.manual_seed(0)
    net, classes = HarmonicRNN(), torch.randint(256, (1, samples))
    check_recurrence(samples)
    check_pieces(net, classes)
    print(f"device   {processor()}, {torch.get_num_threads()} threads")
    print(f"versions torch {torch.__version__}, numba {version('numba')}, python {platform.python_version()}, commit {code_version()}")
    print(f"model    {sum(p.numel() for p in net.parameters()):,} parameters, 1 x {samples:,} samples, float32, {repeats} repeats")

    parameters = list(net.parameters())

    def forward() -> None:
        with torch.no_grad():
            net(classes)

    def step() -> None:
        torch.autograd.grad(sample_nats(net(classes)[0], classes).mean(), parameters)

    report("forward", [samples / s for s in timed(forward, repeats)])
    seconds = timed(step, repeats)
    report("forward + backward", [samples / s for s in seconds])
    recurrence = timed(recurrences_of(net, samples), repeats)
    share = statistics.median(recurrence) / statistics.median(seconds)
    print(f"{'recurrence':20s} {share:6.1%} of forward + backward (all CG-LRUs alone, gate products not counted)")


def check_recurrence(samples: int, units: int = 64) -> None:
    """Raises where the fast scan differs from the float64 reference at these sizes."""
    a = torch.polar(torch.rand(1, samples, units) * 0.9999, torch.rand(1, samples, units)).requires_grad_()
    x = torch.randn(1, samples, units, dtype=torch.complex64, requires_grad=True)
    weights = torch.randn(1, samples, units, dtype=torch.complex64)
    h, _ = linear_scan(a, x)
    gradients = torch.autograd.grad((h * weights).sum().real, (a, x))
    wide = [t.detach().to(torch.complex128).requires_grad_() for t in (a, x)]
    expected, _ = linear_scan_reference(*wide, torch.zeros(1, units, dtype=torch.complex128))
    wide_gradients = torch.autograd.grad((expected * weights).sum().real, wide)
    for value, reference, limit in zip((h, *gradients), (expected, *wide_gradients), (1e-5, 1e-4, 1e-4), strict=True):
        error = ((value - reference).abs().max() / reference.abs().max()).item()
        if not error < limit:
            raise SystemExit(f"the recurrence differs from its reference by {error:.1e}: no speed is reported")


@torch.no_grad()
def check_pieces(net: HarmonicRNN, classes: torch.Tensor) -> None:
    """Raises where the model in two unaligned pieces differs from one pass."""
    whole, _ = net(classes)
    split = classes.shape[1] // 3 + 1
    first, state = net(classes[:, :split])
    second, _ = net(classes[:, split:], state)
    error = ((torch.cat([first, second], dim=1) - whole).abs().max() / whole.abs().max()).item()
    if not error < 1e-5:
        raise SystemExit(f"the model in pieces differs from one pass by {error:.1e}: no speed is reported")


def recurrences_of(net: HarmonicRNN, samples: int) -> Callable[[], None]:
    """Forward and backward of all the model's CG-LRUs at their own rates, and nothing else."""
    calls = []
    for name, layer in net.named_modules():
        if isinstance(layer, GatedRecurrence):
            rate = 1
            level = net.levels
            for _ in range(name.split(".").count("inner")):
                rate *= level.factor
                level = level.inner
            time_steps = samples // rate
            inputs = [torch.randn(1, time_steps, 2 * layer.units, requires_grad=True) for _ in range(2)]
            calls.append((inputs, layer, torch.randn(1, time_steps, 2 * layer.units)))

    def run() -> None:
        for inputs, layer, weights in calls:
            y, _ = cg_lru(*inputs, layer.decay, layer.phase)
            torch.autograd.grad((y * weights).sum(), [*inputs, layer.decay, layer.phase])

    return run


def timed(function: Callable[[], None], repeats: int) -> list[float]:
    """Seconds of each repeat, after one that warms up."""
    function()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return seconds


def report(what: str, rates: list[float]) -> None:
    print(f"{what:20s} {statistics.median(rates):8,.0f} samples/s (lowest {min(rates):,.0f}, highest {max(rates):,.0f})")


def processor() -> str:
    """The processor's name, as Linux gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    auto_cli(main)
