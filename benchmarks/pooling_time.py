"""How much longer a training step takes without pooling: what `ablations` counts equal time by.

OMP_NUM_THREADS=1 python -m benchmarks.pooling_time [--repeats N]
"""

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt
from omegaconf import OmegaConf

from benchmarks.training_speed import processor
from harmonicrnn.models import HarmonicRNN, LevelSpec, sample_nats
from harmonicrnn.provenance import code_version

CONFIGS = Path(__file__).parents[1] / "configs/ablations"


def main(repeats: PositiveInt = 60) -> None:
    """Times steps of `base` and of `pooling` in turns, in processor time, so that other work on the machine counts less.

    Args:
        repeats: Steps of each, after three that warm up.
    """
    steps = [training_step(CONFIGS / f"{name}.yaml") for name in ("base", "pooling")]
    rows = [[seconds_of(step) for step in steps] for _ in range(3 + repeats)][3:]
    print(f"device   {processor()}, {torch.get_num_threads()} threads")
    print(f"versions torch {torch.__version__}, python {platform.python_version()}, commit {code_version()}")
    for name, seconds in zip(("base", "without pooling"), zip(*rows, strict=True), strict=True):
        print(f"{name:16s} {statistics.median(seconds) * 1e3:.1f} ms a step ({min(seconds) * 1e3:.1f} to {max(seconds) * 1e3:.1f})")
    print(f"ratio            {statistics.median(unpooled / base for base, unpooled in rows):.2f}")


def training_step(config: Path) -> Callable[[], None]:
    """A step of AdamW of a config's model, on random classes of its batch size and clip length."""
    settings = OmegaConf.load(config)
    torch.manual_seed(0)
    net = HarmonicRNN(
        tuple(LevelSpec(**level) for level in settings.model.levels), heads=settings.model.heads, expansion=settings.model.expansion
    )
    optimizer, data = torch.optim.AdamW(net.parameters()), settings.data.init_args
    classes = torch.randint(2**net.bits, (data.batch_size, data.clip_samples))

    def step() -> None:
        optimizer.zero_grad()
        sample_nats(net(classes)[0], classes).mean().backward()
        optimizer.step()

    return step


def seconds_of(step: Callable[[], None]) -> float:
    started = time.process_time()
    step()
    return time.process_time() - started


if __name__ == "__main__":
    auto_cli(main)
