"""Samples per second of generation on the CPU, beside what reading the weights alone takes.

    python -m benchmarks.generate [--samples N] [--repeats N] [--threads N] [--prompt N] [--plain N] [--ckpt_path FILE]

Before the timing of a case, the engine is led through samples drawn from the model, and its logits are held against the parallel forward
pass with weights rounded alike. What weights in fewer bits cost is measured on the same samples: of a trained model where its checkpoint is
given. With `--repeats 0` nothing is timed. Generation on a GPU: `python -m benchmarks.gpu --only generation`.
"""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from jsonargparse.typing import NonNegativeInt, PositiveInt
from numba import njit

from benchmarks.rounded_weights import as_stored
from benchmarks.training_speed import processor
from harmonicrnn import load
from harmonicrnn.generation.cpu import CPUEngine
from harmonicrnn.generation.cpu import layers as columns
from harmonicrnn.generation.cpu.llvm import view
from harmonicrnn.generation.cpu.tables import Tables
from harmonicrnn.generation.engine import PlainEngine
from harmonicrnn.generation.sampler import PROMPT_CHUNK, read_prompt
from harmonicrnn.models import HarmonicRNN, ModelState
from harmonicrnn.provenance import code_version

STEPS = 8000  # of one stream that are timed at once, about a second
PIECE = 1600  # samples that are compared at once
LIMITS = {"full": 1e-4, "bfloat16": 1e-4, "int8": 1e-3}  # relative; with int8 the inputs of products are rounded too, to 16 bits
BYTES = {columns.FULL: 4, columns.BFLOAT16: 2, columns.INT8: 1}


def main(
    samples: PositiveInt = 16_000,
    repeats: NonNegativeInt = 7,
    threads: PositiveInt = 2,
    prompt: PositiveInt = 960_000,
    plain: PositiveInt = 300,
    ckpt_path: Path | None = None,
) -> None:
    """Checks and times a model.

    Args:
        samples: Length of the check; each timing is of as many steps as give about a second.
        repeats: Timings of each case; 0 for the checks alone.
        threads: That the engine uses.
        prompt: Length of the prompt.
        plain: Steps of the plain engine, for comparison.
        ckpt_path: A trained model's checkpoint; null for the default model, untrained.
    """
    torch.manual_seed(0)
    net = HarmonicRNN().eval() if ckpt_path is None else load(ckpt_path).net
    print(f"device   {processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    print(f"versions torch {torch.__version__}, numba {version('numba')}, python {platform.python_version()}, commit {code_version()}")
    print(f"model    {sum(p.numel() for p in net.parameters()):,} parameters, {threads} threads, {repeats} repeats\n")
    reference = CPUEngine(net, threads=threads)
    reference.start(fresh(net, 32))
    drawn, _ = reference.draw(torch.rand(32, samples, dtype=torch.float64), 1.0, 1.0)
    for stored, streams in (("full", 1), ("bfloat16", 1), ("int8", 1), ("full", 32), ("bfloat16", 32), ("int8", 32)):
        engine = CPUEngine(net, stored, threads)  # type: ignore[arg-type]
        check(net, engine, drawn[:streams], stored)
        if not repeats:
            continue
        steps = max(160, STEPS // streams // 160 * 160)
        floor = [timed_floor(engine._tables, steps) for _ in range(repeats)]
        report(f"{streams} streams, {stored}", [streams * steps / timed_draw(engine, steps) for _ in range(repeats)], "samples/s")
        report("  floor: reading the weights at their rates", floor, "µs a step")
    classes = torch.randint(net.classes, (1, prompt))
    slow = PlainEngine(net)
    check_plain(net, slow, plain)
    check_prompt(net, classes)
    if not repeats:
        return
    report(
        "1 stream, plain engine", [plain / timed(lambda: slow.draw(torch.rand(1, plain), 1.0, 1.0)) for _ in range(repeats)], "samples/s"
    )
    pieces = classes.split(PROMPT_CHUNK, dim=1)
    report(f"prompt of {prompt:,}", [prompt / timed(lambda: read_prompt(net, pieces)) for _ in range(repeats)], "samples/s")
    with torch.inference_mode():
        rates = [pieces[0].shape[1] / timed(lambda: net(pieces[0])) for _ in range(repeats)]
    report(f"  forward pass over {pieces[0].shape[1]:,} without carried state", rates, "samples/s")


@torch.inference_mode()
def fresh(net: HarmonicRNN, streams: int) -> ModelState:
    return net(torch.zeros(streams, 0, dtype=torch.long))[1]


@torch.inference_mode()
def check(net: HarmonicRNN, engine: CPUEngine, drawn: torch.Tensor, stored: str) -> None:
    """Raises where the engine's logits differ from those of the forward pass with weights rounded as the engine's; says what the rounding
    costs: by how much it raises the expected NLL of what the model itself may draw next, which is the divergence of the two
    distributions.

    Args:
        net: the model, its weights as they are.
        engine: with weights kept as `stored` says.
        drawn: (streams, T) classes, others in each stream.
    """
    engine.start(fresh(net, len(drawn)))
    rounded_net = as_stored(net, stored)
    exact, state = fresh(net, len(drawn)), fresh(rounded_net, len(drawn))
    difference, largest, divergence = 0.0, 0.0, 0.0
    for part in drawn.split(PIECE, dim=1):
        logits, _ = engine.follow(part)
        (expected, exact), (rounded, state) = net(part, exact), rounded_net(part, state)
        ours, theirs = (torch.log_softmax(each.double(), dim=-1) for each in (logits, expected))
        divergence += (theirs.exp() * (theirs - ours)).sum().item()
        difference = max(difference, (logits - rounded).abs().max().item())
        largest = max(largest, rounded.abs().max().item())
    require(difference / largest, LIMITS[stored], f"the engine with weights in {stored}")
    cost = divergence / drawn.numel() / math.log(2)
    print(
        f"{len(drawn)} streams, {stored}: logits differ by {difference / largest:.1e} from the forward pass with such weights over "
        f"{drawn.shape[1]:,} samples each, the weights cost {cost:.1e} bits/sample"
    )


@torch.inference_mode()
def check_plain(net: HarmonicRNN, engine: PlainEngine, samples: int) -> None:
    """Raises where the likelihoods that the plain engine gives its own draws differ from those of the forward pass."""
    engine.start(fresh(net, 1))
    classes, nats = engine.draw(torch.rand(1, samples, dtype=torch.float64), 1.0, 1.0)
    expected = -torch.log_softmax(net(classes)[0].double(), dim=-1).gather(2, classes[..., None])[..., 0]
    require(((nats - expected).abs().max() / expected.abs().max()).item(), LIMITS["full"], "the plain engine")


@torch.inference_mode()
def check_prompt(net: HarmonicRNN, classes: torch.Tensor) -> None:
    """Raises where what follows a prompt read in pieces differs from what follows in one pass over prompt and continuation."""
    after = min(classes.shape[1] // 4, PIECE)
    classes = classes[:, : PROMPT_CHUNK + 2 * after]
    expected = net(classes)[0][:, -after:]
    heard = classes[:, :-after]
    logits, _ = net(classes[:, -after:], read_prompt(net, heard.split(max(1, heard.shape[1] * 2 // 3), dim=1)))
    require(((logits - expected).abs().max() / expected.abs().max()).item(), LIMITS["full"], "what follows the prompt")


def require(difference: float, limit: float, what: str) -> None:
    if not difference < limit:
        raise SystemExit(f"{what} differs from the forward pass by {difference:.1e}, not less than {limit:g}: no speed is reported")


def timed_draw(engine: CPUEngine, steps: int) -> float:
    uniforms = torch.rand(engine._workers[0].lanes, steps, dtype=torch.float64)
    return timed(lambda: engine.draw(uniforms, 1.0, 1.0))


def timed_floor(each: list[Tables], steps: int) -> float:
    """Microseconds a step to read all weights, as often as they are used."""
    reads = [np.array(reads_of(tables), dtype=np.int64) for tables in each]
    read_weights(reads[0], 1)
    others = [Thread(target=read_weights, args=(own, steps)) for own in reads[1:]]

    def all_of_them() -> None:
        for other in others:
            other.start()
        read_weights(reads[0], steps)
        for other in others:
            other.join()

    return timed(all_of_them) / steps * 1e6


def reads_of(tables: Tables) -> list[tuple[int, int, int]]:
    """Address, 64-byte lines and period of the weights of each product; the few int32 that sums of int8 begin with are not counted."""
    periods, numbers = {0: 1}, {tables.head: 1}
    for row in tables.operations:
        level = int(row[columns.LEVEL])
        if row[columns.KIND] == columns.ENTER:
            periods[level + 1] = periods[level] * int(row[columns.FACTOR])
            for first in (row[columns.DOWN], row[columns.UP]):
                numbers |= {int(first) + group: periods[level + 1] for group in range(row[columns.GROUPS])}
        elif row[columns.KIND] == columns.BLOCK:
            heads = range(row[columns.RECURRENCE_GATES], row[columns.RECURRENCE_GATES] + row[columns.HEADS])
            own = (columns.INPUTS, columns.OUTPUT, columns.MLP_INPUTS, columns.MLP_OUTPUT)
            for number in (*heads, *(row[c] for c in own)):
                numbers[int(number)] = periods[level]
    products = ((tables.products[number], period) for number, period in numbers.items())
    return [
        (
            p[columns.PRODUCT_WEIGHTS],
            p[columns.PRODUCT_INPUTS] * p[columns.PRODUCT_PANELS] * 16 * BYTES[int(p[columns.PRODUCT_STORED])] // 64,
            n,
        )
        for p, n in products
    ]


@njit(nogil=True, fastmath=True)
def read_weights(reads: Any, steps: int) -> float:
    """The sum of all that is read, so that it is."""
    total = np.float32(0)
    for t in range(steps):
        for i in range(len(reads)):
            if t % reads[i, 2] == 0:
                numbers = view(reads[i, 0], 0, reads[i, 1] * 16, np.float32(0))
                for j in range(len(numbers)):
                    total += numbers[j]
    return total


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def report(what: str, values: list[float], unit: str) -> None:
    spread = f" (lowest {min(values):,.0f}, highest {max(values):,.0f})" if len(values) > 1 else ""
    print(f"{what:45s} {statistics.median(values):9,.0f} {unit}{spread}, load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    auto_cli(main)
