"""Seconds that the log-mel FAD of clips against clips takes, from samples in memory to the distance, without any generation.

    python -m benchmarks.fad_speed [--clips N] [--repeats N]

Before any timing the very case is checked: the distance against one from numpy's covariances and scipy's square root of their product. The
goal is 20 s for 1,000 clips of a second at 16 kHz against as many, on two cores.
"""

import platform
import statistics
from importlib.metadata import version

import numpy as np
import scipy.linalg
import torch
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt

from benchmarks.training_speed import processor, timed
from harmonicrnn.metrics import GaussianFit, LogMel, frechet_distance
from harmonicrnn.provenance import code_version

RATE = 16_000
GOAL = 20.0


def main(clips: PositiveInt = 1000, repeats: PositiveInt = 7) -> None:
    """Checks, then times.

    Args:
        clips: Of a second, in each set.
        repeats: Timed passes, after one that warms up.
    """
    generator = torch.Generator().manual_seed(0)
    sets = [[noise(generator, tilt) for _ in range(clips)] for tilt in (0.5, 0.9)]
    measured, expected = distance(sets), slow_distance(sets)
    if not abs(measured - expected) < 1e-6 * expected:
        raise SystemExit(f"the distance is {measured}, and {expected} by scipy: no speed is reported")
    print(f"device   {processor()}, {torch.get_num_threads()} threads")
    print(f"versions torch {torch.__version__}, torchaudio {version('torchaudio')}, python {platform.python_version()}, {code_version()}")
    print(f"case     {clips:,} clips of {RATE:,} samples against as many, {repeats} repeats; distance {measured:.4f}")
    seconds = timed(lambda: distance(sets), repeats)
    print(f"seconds  {statistics.median(seconds):.2f} (lowest {min(seconds):.2f}, highest {max(seconds):.2f}), goal {GOAL:.0f}")


def noise(generator: torch.Generator, tilt: float) -> torch.Tensor:
    """A second of filtered noise, of a level and a tilt of its own."""
    level, own = torch.rand(2, generator=generator)
    white = torch.randn(RATE, generator=generator)
    white[1:] += (tilt + 0.1 * own) * white[:-1]
    return 0.1 * level * white


def distance(sets: list[list[torch.Tensor]]) -> float:
    """The log-mel FAD."""
    gaussians = []
    for clips in sets:
        embedder = LogMel(RATE)
        fit = GaussianFit(embedder.dimensions)
        fit.update(torch.cat(embedder(clips)))
        gaussians.append(fit.compute())
    return frechet_distance(*gaussians)


def slow_distance(sets: list[list[torch.Tensor]]) -> float:
    """The same, clip by clip, and by the square root of the product of the covariances."""
    embedder = LogMel(RATE)
    rows = [np.concatenate([embedder([clip])[0].numpy() for clip in clips]).astype(np.float64) for clips in sets]
    (m1, m2), (c1, c2) = [r.mean(axis=0) for r in rows], [np.cov(r, rowvar=False) for r in rows]
    return float(np.square(m1 - m2).sum() + np.trace(c1) + np.trace(c2) - 2 * np.trace(scipy.linalg.sqrtm(c1 @ c2)).real)


if __name__ == "__main__":
    auto_cli(main)
