"""Whether the scores of SC09, and the log-mel FAD, put sets of audio in the order of how noisy they are.

    python -m benchmarks.digit_noise data/sc09 [--shards DIR] [--seeds [0,1,2]] [--steps N]

For each seed a classifier is trained by `configs/sc09_classifier.yaml`, in as few steps as small data takes. One half of the training split
is the reference; the other half is compared with it as it is, and with white noise added, 30, 10 and 0 dB below its own power. Then the
halves change places, and each score is the mean of both: halves of a small split can differ by more than the least noise changes. FAD, FID
and AM must rise strictly from each to the next, the Inception Score and the modified one fall; the source's form is only shown, as it rises
where few digits are left. The seed draws the halves, the noise, and the classifier's weights, batches and augmentation.
"""

import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.fad_noise import RATIOS, fitted, noisy
from cli import main as train
from datamodules import SC09Digits
from harmonicrnn.evaluation.digit_classifier import DigitClassifier, load_digit_classifier
from harmonicrnn.metrics import digit_reference, digit_scores, frechet_distance

CONFIG = Path(__file__).parents[1] / "configs" / "sc09_classifier.yaml"
BETTER_WHEN_HIGHER = ("is", "mis")
ONLY_SHOWN = "is_s4"


def main(
    root: Path, shards: Path | None = None, seeds: Sequence[int] = (0, 1, 2, 3, 4), steps: int = 500, classifier: Path | None = None
) -> None:
    """Measures and prints a table.

    Args:
        root: Folder of SC09.
        shards: Folder of the prepared recordings; null for the usual one in root.
        seeds: One measurement each.
        steps: Of each classifier's training, of 16 clips.
        classifier: A trained one instead, or the source's resnext.pth.
    """
    data = SC09Digits(root, shards=shards, num_workers=0)
    data.prepare_data()
    data.setup("fit")
    clips = [data.audio("train", i) for i in range(data.clip_count("train"))]
    table = Table("seed", "accuracy", "score", *("as it is" if ratio is None else f"{ratio} dB" for ratio in RATIOS), "in order")
    accuracies, orders = [], []
    for seed in seeds:
        judge = load_digit_classifier(trained(data, seed, steps) if classifier is None else classifier)
        accuracies.append(accuracy_of(judge, data))
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(clips), generator=generator).tolist()
        halves = [[clips[i] for i in order[side::2]] for side in (0, 1)]
        both = [compared(judge, half, other, generator) for half, other in (halves, halves[::-1])]
        rows = [{name: (a[name] + b[name]) / 2 for name in a} for a, b in zip(*both, strict=True)]
        for name in rows[0]:
            values = [row[name] for row in rows]
            ordered = all(a > b if name in BETTER_WHEN_HIGHER else a < b for a, b in pairwise(values))
            orders += [ordered] if name != ONLY_SHOWN else []
            label = (str(seed), f"{accuracies[-1]:.1%}") if name == next(iter(rows[0])) else ("", "")
            verdict = "" if name == ONLY_SHOWN else "yes" if ordered else "no"
            table.add_row(*label, name, *(f"{value:.4g}" for value in values), verdict)
    console = Console()
    console.print(table)
    console.print(
        f"{len(clips)} clips, halves of {len(clips) // 2}; {sum(orders)} of {len(orders)} in order; mean accuracy "
        f"{sum(accuracies) / len(accuracies):.1%} on the {data.clip_count('test')} clips of the test split",
        highlight=False,
    )


def trained(data: SC09Digits, seed: int, steps: int) -> Path:
    """The checkpoint of a classifier trained with a seed, in a folder that is left in the temporary ones."""
    folder = Path(tempfile.mkdtemp(prefix=f"digits_{seed}_"))
    arguments = [
        f"--seed_everything={seed}",
        f"--data.seed={seed}",
        f"--data.root={data.root.resolve()}",
        f"--data.shards={data.shards.resolve()}",
    ]
    arguments += [
        "--data.batch_size=16",
        "--data.num_workers=0",
        f"--trainer.max_steps={steps}",
        f"--trainer.val_check_interval={max(1, steps // 4)}",
    ]
    arguments += [f"--trainer.logger.init_args.save_dir={folder}", "--trainer.enable_progress_bar=false"]
    status = train(["fit", "--config", str(CONFIG), *arguments])
    if status:
        raise SystemExit(status)
    return folder / "sc09_classifier" / "version_0" / "checkpoints" / "best.ckpt"


def accuracy_of(judge: DigitClassifier, data: SC09Digits) -> float:
    """The share of the test split's clips that it is right on."""
    seen = judge([data.audio("test", i) for i in range(data.clip_count("test"))])
    return (seen.log_probabilities.argmax(dim=1) == data.labels("test")).double().mean().item()


def compared(judge: DigitClassifier, real: list[Tensor], clips: list[Tensor], generator: torch.Generator) -> list[dict[str, float]]:
    """All scores of clips against real ones, the log-mel FAD first, at each ratio of noise."""
    reference, embedded = digit_reference(judge(real)), fitted(real)
    noises = ([noisy(clip, ratio, generator) for clip in clips] for ratio in RATIOS)
    return [{"fad_logmel": frechet_distance(embedded, fitted(part))} | digit_scores(judge(part), reference) for part in noises]


if __name__ == "__main__":
    auto_cli(main)
