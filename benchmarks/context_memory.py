"""Peak memory of a training step on one waveform, whole and split over two ranks.

    python -m benchmarks.context_memory [--samples N] [--width D]

Each runs in processes of its own (two over gloo), on a narrow model so that 960,000 samples fit a laptop. Counted is the peak of the
resident memory above what was resident before the step. The loss and the gradients of both are compared first.
"""

import multiprocessing
import platform
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from benchmarks.training_speed import processor
from harmonicrnn.models import HarmonicRNN, LevelSpec, sample_nats, set_slices
from harmonicrnn.parallel import ContextGroup, ProcessGroup
from harmonicrnn.provenance import code_version

RANKS = 2
WARM_UP = 1600  # samples of a first step, which compiles


def make_net(width: int) -> HarmonicRNN:
    torch.manual_seed(0)
    factors = (2, 4, 4, 5, 1)
    return HarmonicRNN([LevelSpec(width, 1, factor) for factor in factors], bits=6, heads=2)


def step(net: Any, optimizer: torch.optim.Optimizer, classes: Tensor, before: Tensor | None, normaliser: float) -> float:
    optimizer.zero_grad()
    loss = sample_nats(net(classes, None, before)[0], classes).sum() / normaliser
    loss.backward()
    optimizer.step()
    return loss.item()


def measured(net: Any, cut: Callable[[Tensor], tuple[Tensor, Tensor | None]], samples: int, ranks: int) -> dict[str, Any]:
    """Loss, gradients and bytes of a step on `samples`, after one on few."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for length in (WARM_UP, samples):
        classes = torch.randint(64, (1, length), generator=torch.Generator().manual_seed(1))
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        # Gradients are averaged over the ranks.
        loss = step(net, optimizer, *cut(classes), length / ranks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"loss": loss / ranks, "gradients": [p.grad.numpy() for p in net.parameters()], "bytes": peak - before}


def whole(width: int, samples: int, pipe: Any) -> None:
    """The step on one process."""
    pipe.send(measured(make_net(width), lambda classes: (classes, None), samples, 1))


def split(rank: int, meeting: str, width: int, samples: int, pipe: Any) -> None:
    """The step on one rank of two."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    net = make_net(width)
    set_slices(net, ContextGroup(ProcessGroup(dist.group.WORLD)))

    def cut(classes: Tensor) -> tuple[Tensor, Tensor | None]:
        length = classes.shape[1] // RANKS
        return classes[:, rank * length : (rank + 1) * length], classes[:, rank * length - 1]

    pipe.send(measured(DistributedDataParallel(net), cut, samples, RANKS))
    dist.destroy_process_group()


def main(samples: PositiveInt = 960_000, width: PositiveInt = 16) -> None:
    """Measures both, and prints the ratio.

    Args:
        samples: Of the waveform; a multiple of 320.
        width: Channels of all levels.
    """
    context = multiprocessing.get_context("spawn")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        alone: list[tuple[Callable[..., None], tuple[Any, ...]]] = [(whole, (width, samples))]
        ranks = [(split, (rank, f"{folder}/meet", width, samples)) for rank in range(RANKS)]
        for group in (alone, ranks):
            pipes, processes = [], []
            for target, args in group:
                here, there = context.Pipe()
                processes.append(context.Process(target=target, args=(*args, there)))
                pipes.append(here)
                processes[-1].start()
                there.close()
            results += [pipe.recv() for pipe in pipes]
            for process in processes:
                process.join()
    reference, parts = results[0], results[1:]
    loss = sum(part["loss"] for part in parts)
    pairs = [(a, b) for part in parts for a, b in zip(part["gradients"], reference["gradients"], strict=True)]
    error = max(abs(loss / reference["loss"] - 1), *(float(abs(a - b).max() / abs(b).max()) for a, b in pairs))
    if not error < 1e-3:
        raise SystemExit(f"split and whole differ by {error:.1e}: nothing is reported")
    print(f"device   {processor()}, {torch.get_num_threads()} threads a process")
    print(f"versions torch {torch.__version__}, python {platform.python_version()}, commit {code_version()}")
    print(f"model    {sum(p.numel() for p in make_net(width).parameters()):,} parameters, 1 x {samples:,} samples, float32, AdamW")
    print(f"equal    loss and gradients to {error:.1e}")
    print(f"whole    {reference['bytes'] / 2**30:.2f} GiB above what was resident before the step")
    for rank, part in enumerate(parts):
        print(f"rank {rank}   {part['bytes'] / 2**30:.2f} GiB, {part['bytes'] / reference['bytes']:.3f} of that")


if __name__ == "__main__":
    auto_cli(main)
