"""Whether the log-mel FAD puts sets of audio in the order of how noisy they are.

    python -m benchmarks.fad_noise data/sc09 [--shards DIR] [--seeds N]

One half of SC09's training split is the reference; the other half is compared with it as it is, and with white noise added, 30, 10 and
0 dB below its own power. For each seed, which draws the halves and the noise, the four distances must rise strictly.
"""

from itertools import pairwise
from pathlib import Path

import torch
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt
from rich.console import Console
from rich.table import Table

from datamodules import SC09
from harmonicrnn.metrics import Gaussian, GaussianFit, LogMel, frechet_distance

RATIOS = (None, 30, 10, 0)  # dB


def main(root: Path, shards: Path | None = None, seeds: PositiveInt = 5) -> None:
    """Measures and prints a table.

    Args:
        root: Folder of SC09.
        shards: Folder of the prepared recordings; null for the usual one in root.
        seeds: How many times.
    """
    data = SC09(root, shards=shards, scaling="none", num_workers=0)
    data.setup("fit")
    clips = [data.audio("train", i) for i in range(data.clip_count("train"))]
    table = Table("seed", *("as it is" if ratio is None else f"{ratio} dB" for ratio in RATIOS), "in order")
    ordered = []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(clips), generator=generator).tolist()
        reference = fitted([clips[i] for i in order[::2]])
        halves = ([noisy(clips[i], ratio, generator) for i in order[1::2]] for ratio in RATIOS)
        distances = [frechet_distance(reference, fitted(half)) for half in halves]
        ordered.append(all(a < b for a, b in pairwise(distances)))
        table.add_row(str(seed), *(f"{distance:.3f}" for distance in distances), "yes" if ordered[-1] else "no")
    console = Console()
    console.print(table)
    console.print(f"{len(clips)} clips, halves of {len(clips) // 2}; in order for {sum(ordered)} of {seeds} seeds", highlight=False)


def noisy(clip: torch.Tensor, ratio: float | None, generator: torch.Generator) -> torch.Tensor:
    """The clip with white noise at a ratio of powers in dB; None for no noise."""
    if ratio is None:
        return clip
    power = clip.square().mean() * 10 ** (-ratio / 10)
    return clip + power.sqrt() * torch.randn(clip.shape, generator=generator)


def fitted(clips: list[torch.Tensor]) -> Gaussian:
    """The Gaussian of the clips' embeddings."""
    embedder = LogMel(16_000)
    fit = GaussianFit(embedder.dimensions)
    fit.update(torch.cat(embedder(clips)))
    gaussian: Gaussian = fit.compute()
    return gaussian


if __name__ == "__main__":
    auto_cli(main)
