"""Peak memory of a training step on one waveform: split over two ranks, and with levels recomputed in the backward pass.

    python -m benchmarks.training_memory split [--samples N] [--width D]
    python -m benchmarks.training_memory recomputed [--samples N] [--preset paper]

Each case runs in new processes (ranks use gloo). The result is the peak of the resident memory minus that before the step. Loss and
gradients of the cases are compared before anything is printed.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from jsonargparse.typing import PositiveInt
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from benchmarks.timing import UnequalError, alone, benchmark, check, header, peak_above, processes
from harmonicrnn.models import HarmonicRNN, LevelSpec, sample_nats, set_slices
from harmonicrnn.models.harmonic_rnn import DEFAULT_LEVELS
from harmonicrnn.models.presets import Preset
from harmonicrnn.parallel import ContextGroup, ProcessGroup

RANKS = 2
WARM_UP = 1600  # samples of a first step, which compiles the code
Step = tuple[list[Any], int]
"""Loss and gradients as numpy arrays, and peak memory in bytes."""


def split(samples: PositiveInt = 960_000, width: PositiveInt = 16) -> None:
    """Measures a step of a narrow model on a whole waveform and split over two ranks; 960,000 samples fit a laptop.

    Args:
        samples: Length of the waveform, a multiple of 320.
        width: Channels of all levels.
    """
    if samples % 320:
        raise UnequalError(f"--samples must be a multiple of 320, so that the ranks get equal parts; got {samples}")
    header()
    with tempfile.TemporaryDirectory() as folder, processes(RANKS) as pool:
        ranks = [pool.submit(on_rank, rank, f"{folder}/meet", width, samples) for rank in range(RANKS)]
        parts = [rank.result() for rank in ranks]
    whole = alone(whole_step, narrow, (width,), samples)
    loss = sum(values[0] for values, _ in parts)
    for values, _ in parts:
        equal("split over ranks", [loss, *values[1:]], whole[0], 1e-3)
    told("whole", whole, whole)
    for rank, part in enumerate(parts):
        told(f"rank {rank}", part, whole)


def recomputed(samples: PositiveInt = 16_000, preset: Preset = "griffin") -> None:
    """Measures a step of the default model with no level, the outermost level or all levels recomputed in the backward pass.

    Args:
        samples: Length of the waveform.
        preset: Block of the model.
    """
    header()
    cases = {"none": (), "outermost level": (0,), "all levels": tuple(range(len(DEFAULT_LEVELS)))}
    found = [alone(whole_step, with_recomputed, (levels, preset), samples) for levels in cases.values()]
    for name, step in zip(cases, found, strict=True):
        equal(name, step[0], found[0][0], 1e-4)
    for name, step in zip(cases, found, strict=True):
        told(name, step, found[0])


def equal(what: str, values: list[Any], references: list[Any], limit: float) -> None:
    """Raises UnequalError if values differ from their references."""
    check(what, [torch.as_tensor(value) for value in values], [torch.as_tensor(value) for value in references], limit)


def told(name: str, step: Step, reference: Step) -> None:
    """Prints the peak memory of a case, and its ratio to that of the reference."""
    print(f"{name:16s} {step[1] / 2**30:6.2f} GiB above the memory before the step, {step[1] / reference[1]:.2f} of the first")


def narrow(width: int) -> HarmonicRNN:
    """Returns a model whose levels all have the same width."""
    torch.manual_seed(0)
    return HarmonicRNN([LevelSpec(width, 1, factor) for factor in (2, 4, 4, 5, 1)], preset="griffin", bits=6, heads=2)


def with_recomputed(levels: tuple[int, ...], preset: Preset) -> HarmonicRNN:
    """Returns the default model with some levels recomputed."""
    torch.manual_seed(0)
    return HarmonicRNN([replace(level, recompute=i in levels) for i, level in enumerate(DEFAULT_LEVELS)], preset=preset).eval()


def whole_step(make: Callable[..., HarmonicRNN], args: tuple[Any, ...], samples: int) -> Step:
    """Measures the step in one process."""
    return measured(make(*args), lambda classes: (classes, None), samples, 1)


def on_rank(rank: int, meeting: str, width: int, samples: int) -> Step:
    """Measures the step on one of two ranks."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    net = narrow(width)
    set_slices(net, ContextGroup(ProcessGroup(dist.group.WORLD)))

    def cut(classes: Tensor) -> tuple[Tensor, Tensor | None]:
        length = classes.shape[1] // RANKS
        return classes[:, rank * length : (rank + 1) * length], classes[:, rank * length - 1]

    found = measured(DistributedDataParallel(net), cut, samples, RANKS)
    dist.destroy_process_group()
    return found


def measured(net: Any, cut: Callable[[Tensor], tuple[Tensor, Tensor | None]], samples: int, ranks: int) -> Step:
    """Measures a training step on `samples` samples, after a short first step."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)

    def step(length: int) -> Tensor:
        classes, before = cut(torch.randint(64, (1, length), generator=torch.Generator().manual_seed(1)))
        optimizer.zero_grad()
        # Gradients are averaged over the ranks.
        loss = sample_nats(net(classes, None, before)[0], classes).sum() / (length / ranks)
        loss.backward()
        optimizer.step()
        return loss.detach() / ranks

    step(WARM_UP)
    loss, peak = peak_above(step, samples)
    return [loss.numpy(), *(p.grad.numpy() for p in net.parameters())], peak


if __name__ == "__main__":
    raise SystemExit(benchmark(split, recomputed))
