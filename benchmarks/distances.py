"""Distances and scores of audio: whether they order sets of clips by their noise, and the speed of the FAD.

python -m benchmarks.distances noise data/sc09 [--seeds [0,1,2]] [--classifiers true] [--steps N]
python -m benchmarks.distances speed [--clips N] [--repeats N]
"""

import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor

from benchmarks.timing import UnequalError, benchmark, by_turns, header, show
from datamodules import SC09Digits
from harmonicrnn.evaluation.digit_classifier import DigitClassifier, load_digit_classifier
from harmonicrnn.metrics import Gaussian, GaussianFit, LogMel, digit_reference, digit_scores, frechet_distance

RATE = 16_000
RATIOS = (None, 30, 10, 0)  # dB
BETTER_WHEN_HIGHER, ONLY_SHOWN = ("is", "mis"), "is_s4"
CONFIG = Path(__file__).parents[1] / "configs/sc09_classifier.yaml"


def noise(
    root: Path, shards: Path | None = None, seeds: Sequence[int] = (0, 1, 2, 3, 4), classifiers: bool = False, steps: PositiveInt = 500
) -> None:
    """Checks that distances and scores between halves of SC09's training split change monotonically with added noise.

    One half is compared without noise and with white noise 30, 10 and 0 dB below its power; each value is the mean over both assignments of
    the halves. FAD, FID and AM score must increase strictly, and both Inception Scores decrease. The S4 form of the Inception Score is only
    printed, since it increases when few digits are left.

    Args:
        root: Folder of SC09.
        shards: Folder of the prepared recordings; null for the default one in root.
        seeds: One measurement each; a seed sets the halves, the noise, and the classifier's weights, batches and augmentation.
        classifiers: Whether to train a classifier for each seed and measure the scores of SC09 too.
        steps: Training steps of each classifier, on batches of 16 clips.
    """
    data = SC09Digits(root, shards=shards, num_workers=0)
    data.prepare_data()
    data.setup("fit")
    clips = [data.audio("train", i) for i in range(data.clip_count("train"))]
    print("seed, score: without noise, then with noise at", *(f"{ratio} dB" for ratio in RATIOS[1:]))
    orders = []
    for seed in seeds:
        judge = load_digit_classifier(trained(data, seed, steps)) if classifiers else None
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(clips), generator=generator).tolist()
        halves = [[clips[i] for i in order[side::2]] for side in (0, 1)]
        both = [compared(judge, half, other, generator) for half, other in (halves, halves[::-1])]
        for name in both[0][0]:
            values = [(a[name] + b[name]) / 2 for a, b in zip(*both, strict=True)]
            ordered = all(a > b if name in BETTER_WHEN_HIGHER else a < b for a, b in pairwise(values))
            orders += [ordered] if name != ONLY_SHOWN else []
            print(f"{seed} {name}:", *(f"{value:.4g}" for value in values), "in order" if ordered else "not in order", flush=True)
    print(f"{len(clips)} clips, halves of {len(clips) // 2}; {sum(orders)} of {len(orders)} in order")


def compared(judge: DigitClassifier | None, real: list[Tensor], clips: list[Tensor], generator: torch.Generator) -> list[dict[str, float]]:
    """Returns all scores of clips against real ones at each noise ratio, the log-mel FAD first."""
    embedded, scores = fitted(real), []
    reference = digit_reference(judge(real)) if judge else None
    for ratio in RATIOS:
        heard = [noisy(clip, ratio, generator) for clip in clips]
        scores.append({"fad_logmel": frechet_distance(embedded, fitted(heard))} | (digit_scores(judge(heard), reference) if judge else {}))
    return scores


def noisy(clip: Tensor, ratio: float | None, generator: torch.Generator) -> Tensor:
    """Adds white noise at a signal-to-noise ratio in dB; None adds no noise."""
    if ratio is None:
        return clip
    power = clip.square().mean() * 10 ** (-ratio / 10)
    return clip + power.sqrt() * torch.randn(clip.shape, generator=generator)


def fitted(clips: list[Tensor]) -> Gaussian:
    """Returns the Gaussian of the clips' log-mel embeddings."""
    embedder = LogMel(RATE)
    fit = GaussianFit(embedder.dimensions)
    fit.update(torch.cat(embedder(clips)))
    gaussian: Gaussian = fit.compute()
    return gaussian


def trained(data: SC09Digits, seed: int, steps: int) -> Path:
    """Trains a classifier and returns the path of its checkpoint, in a temporary folder that is not deleted."""
    from cli import main

    folder = Path(tempfile.mkdtemp(prefix=f"digits_{seed}_"))
    settings = {
        "seed_everything": seed,
        "data.seed": seed,
        "data.root": data.root.resolve(),
        "data.shards": data.shards.resolve(),
        "data.batch_size": 16,
        "data.num_workers": 0,
        "trainer.max_steps": steps,
        "trainer.val_check_interval": max(1, steps // 4),
        "trainer.logger.init_args.save_dir": folder,
        "trainer.enable_progress_bar": "false",
    }
    if status := main(["fit", "--config", str(CONFIG), *(f"--{key}={value}" for key, value in settings.items())]):
        raise SystemExit(status)
    return folder / "sc09_classifier/version_0/checkpoints/best.ckpt"


def speed(clips: PositiveInt = 1000, repeats: PositiveInt = 7) -> None:
    """Measures the time of the log-mel FAD between two sets of synthetic clips, from samples in memory to the distance.

    The goal is 20 s for 1,000 clips on two cores. First the distance is checked against numpy's covariances and scipy's matrix square root
    of their product.

    Args:
        clips: Clips of one second in each set.
        repeats: Timed passes after one warm-up pass.
    """
    generator = torch.Generator().manual_seed(0)
    sets = [[tilted(generator, tilt) for _ in range(clips)] for tilt in (0.5, 0.9)]
    measured, expected = frechet_distance(*map(fitted, sets)), slow_distance(sets)
    if not abs(measured - expected) < 1e-6 * expected:
        raise UnequalError(f"the distance is {measured}, and {expected} by scipy: no speed is reported")
    header("torchaudio")
    (seconds,) = by_turns({"fad": lambda: frechet_distance(*map(fitted, sets))}, repeats).values()
    show(f"FAD of {clips:,} clips of {RATE:,} against as many", seconds, "s", "goal 20 s for 1,000", digits=2)


def tilted(generator: torch.Generator, tilt: float) -> Tensor:
    """Returns a second of filtered noise with random level and spectral tilt."""
    level, own = torch.rand(2, generator=generator)
    white = torch.randn(RATE, generator=generator)
    white[1:] += (tilt + 0.1 * own) * white[:-1]
    return 0.1 * level * white


def slow_distance(sets: list[list[Tensor]]) -> float:
    """Returns the FAD computed clip by clip, with the matrix square root of the product of the covariances."""
    embedder = LogMel(RATE)
    rows = [np.concatenate([embedder([clip])[0].numpy() for clip in clips]).astype(np.float64) for clips in sets]
    (m1, m2), (c1, c2) = [r.mean(axis=0) for r in rows], [np.cov(r, rowvar=False) for r in rows]
    return float(np.square(m1 - m2).sum() + np.trace(c1) + np.trace(c2) - 2 * np.trace(scipy.linalg.sqrtm(c1 @ c2)).real)


if __name__ == "__main__":
    raise SystemExit(benchmark(noise, speed))
