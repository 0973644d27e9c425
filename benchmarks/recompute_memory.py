"""Peak memory of a training step with levels recomputed in the backward pass, and with none.

    python -m benchmarks.recompute_memory [--samples N]

The default model in float32 with AdamW on one waveform. Each case runs in a process of its own, and its loss and gradients are compared
with those of the case without recomputation before anything is printed. Counted is the peak of the resident memory above what was
resident before the step.
"""

import multiprocessing
import platform
from dataclasses import replace
from typing import Any

import torch
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt

from benchmarks.context_memory import measured
from benchmarks.training_speed import processor
from harmonicrnn.models import HarmonicRNN
from harmonicrnn.models.harmonic_rnn import DEFAULT_LEVELS
from harmonicrnn.provenance import code_version

CASES = {"none": (), "outermost level": (0,), "all levels": tuple(range(len(DEFAULT_LEVELS)))}


def step(recomputed: tuple[int, ...], samples: int, pipe: Any) -> None:
    """The step of one case, after one on few samples; sends what is compared and measured."""
    torch.manual_seed(0)
    levels = [replace(level, recompute=i in recomputed) for i, level in enumerate(DEFAULT_LEVELS)]
    pipe.send(measured(HarmonicRNN(levels), lambda classes: (classes, None), samples, 1))


def main(samples: PositiveInt = 16_000) -> None:
    """Measures all cases, and prints their ratios.

    Args:
        samples: Of the waveform.
    """
    context = multiprocessing.get_context("spawn")
    results = []
    for recomputed in CASES.values():
        here, there = context.Pipe()
        process = context.Process(target=step, args=(recomputed, samples, there))
        process.start()
        there.close()
        results.append(here.recv())
        process.join()
    reference = results[0]
    pairs = [(a, b) for result in results[1:] for a, b in zip(result["gradients"], reference["gradients"], strict=True)]
    losses = [abs(result["loss"] / reference["loss"] - 1) for result in results]
    error = max(*losses, *(float(abs(a - b).max() / abs(b).max()) for a, b in pairs))
    if not error < 1e-4:
        raise SystemExit(f"with recomputation and without differ by {error:.1e}: nothing is reported")
    print(f"device   {processor()}, {torch.get_num_threads()} threads")
    print(f"versions torch {torch.__version__}, python {platform.python_version()}, commit {code_version()}")
    print(f"model    {sum(p.numel() for p in HarmonicRNN().parameters()):,} parameters, 1 x {samples:,} samples, float32, AdamW")
    print(f"equal    loss and gradients to {error:.1e}")
    for name, result in zip(CASES, results, strict=True):
        share = result["bytes"] / reference["bytes"]
        print(f"{name:16s} {result['bytes'] / 2**30:6.2f} GiB, {share:.2f} of that without recomputation")


if __name__ == "__main__":
    auto_cli(main)
