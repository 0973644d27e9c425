"""Where the time of a generated sample goes: steps of the CPU engine with one part of the work left out at a time.

    python -m benchmarks.generate_parts [--stored int8] [--threads 2] [--repeats 9]

The complete engine is checked as in `benchmarks.generate` before it is timed. What is left out saves its own time and what it made the
processor wait for, so the parts need not add up to the whole. Each is compiled in a process of its own.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any, Literal

import torch
from jsonargparse import auto_cli

from benchmarks.generate import check, fresh, timed_draw
from benchmarks.training_speed import processor
from harmonicrnn.generation.cpu import CPUEngine, layers, llvm, loop
from harmonicrnn.models import HarmonicRNN
from harmonicrnn.provenance import code_version

PARTS = {
    "product": "products with weights",
    "_recur": "the recurrence with its gates' functions",
    "_gated": "gated GELUs",
    "_convolve": "the convolution",
    "normalise": "norms",
    "_add_parts": "adding what the threads have computed",
    "meet": "threads waiting for one another",
}
STEPS = 8000


def main(stored: Literal["full", "bfloat16", "int8"] = "int8", threads: int = 2, repeats: int = 9, without: str | None = None) -> None:
    """Measures and prints a table.

    Args:
        stored: How weights are kept.
        threads: That share each layer.
        repeats: Timings of each.
        without: The part that is left out, of which nothing but the microseconds a step are printed; null for all of them in turn.
    """
    if without is not None:
        leave_out(without)
        print(statistics.median(times(stored, threads, repeats)))
        return
    print(f"device {processor()}, {os.cpu_count()} cores, commit {code_version()}, {threads} threads, weights in {stored}")
    whole = times(stored, threads, repeats, checked=True)
    print(f"a step: {statistics.median(whole):.1f} µs (lowest {min(whole):.1f}, highest {max(whole):.1f}); without")
    for part, title in PARTS.items():
        command = [sys.executable, "-m", "benchmarks.generate_parts", "--stored", stored, "--threads", str(threads), "--without", part]
        with tempfile.TemporaryDirectory() as cache:  # what is compiled here must not be taken for the engine
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"NUMBA_CACHE_DIR": cache})
        print(f"{title:45s} {float(done.stdout):6.1f} µs", flush=True)


def leave_out(part: str) -> None:
    """Replaces a function of the layers by one that does nothing, before anything is compiled."""

    @llvm.jit
    def nothing(*arguments: Any) -> None:
        pass

    for module in (layers, loop):
        if hasattr(module, part):
            setattr(module, part, nothing)


def times(stored: Any, threads: int, repeats: int, checked: bool = False) -> list[float]:
    """Microseconds a step of the default model, untrained."""
    torch.manual_seed(0)
    net = HarmonicRNN().eval()
    engine = CPUEngine(net, stored, threads)
    if checked:
        check(net, engine, torch.randint(net.classes, (1, 320)), stored)
    engine.start(fresh(net, 1))
    timed_draw(engine, 160)
    return [timed_draw(engine, STEPS) / STEPS * 1e6 for _ in range(repeats)]


if __name__ == "__main__":
    auto_cli(main)
