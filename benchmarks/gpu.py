"""Speed and memory on a GPU: all cases in one command.

    python -m benchmarks.gpu [--repeats N] [--only NAME]

Each case is checked against a reference before it is timed; if it is unequal, out of memory or fails, the reason is printed instead.
Training steps (bf16-mixed) and generation use the model of configs/sc09.yaml; cases of the recurrence are in gpu_recurrence.py.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor

from benchmarks.gpu_recurrence import CONSTANTS, against_accelerated_scan, against_associative_scan, against_plain, fused, tuning
from benchmarks.timing import UnequalError, benchmark, by_turns, check, header, show
from harmonicrnn.errors import UserError
from harmonicrnn.generation.graph_engine import GraphEngine
from harmonicrnn.models import HarmonicRNN, LevelSpec, sample_nats
from harmonicrnn.models.harmonic_rnn import DEFAULT_LEVELS


@dataclass(frozen=True)
class Step:
    """A training step.

    Args:
        batch: Clips per batch.
        samples: Samples per clip.
        goal: Goal to print beside the result.
        recompute: Whether to recompute all levels in the backward pass.
        memory: Limit of the device memory in GB; None for all of it.
        compiled: Whether to use torch.compile.
    """

    batch: int
    samples: int
    goal: str
    recompute: bool = False
    memory: int | None = None
    compiled: bool = False

    @property
    def name(self) -> str:
        """Name of the case."""
        kept = "recomputed" if self.recompute else "no recomputation"
        options = f"{f' in {self.memory} GB' if self.memory else ''}{', torch.compile' if self.compiled else ''}"
        return f"training step B={self.batch} T={self.samples:,} {kept}{options}"


MINUTE, PRESET = 960_000, "paper"
STEPS = (
    Step(1, MINUTE, "150 ms"),
    Step(1, MINUTE, "150 ms", compiled=True),
    Step(1, MINUTE, "200 ms", recompute=True, memory=24),
    Step(16, 16_000, "8,000,000 samples/s"),
    Step(16, 16_000, "8,000,000 samples/s", compiled=True),
    Step(1, 8_000_000, "runs in 141 GB", recompute=True),
)


def training(step: Step, device: torch.device, repeats: int, levels: tuple[LevelSpec, ...] = DEFAULT_LEVELS) -> float:
    """Times forward, backward and AdamW without dropout, and returns the median in seconds.

    Checked first: gradients of a short clip in float32 and bf16-mixed, and logits and loss of the timed case.

    Raises:
        UnequalError: If a check fails.
    """
    torch.manual_seed(0)
    net = HarmonicRNN(tuple(replace(level, recompute=step.recompute) for level in levels), preset=PRESET, dropout=0.0).to(device)
    classes = torch.randint(2**net.bits, (step.batch, step.samples), device=device)
    check_gradients(net, levels, classes[:1, : 10 * net.pooling_product])
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-6, fused=device.type == "cuda")

    function = torch.compile(net) if step.compiled and device.type == "cuda" else net

    def run() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            logits, _ = function(classes)
            loss = sample_nats(logits, classes).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    expected = checked_loss(step.name, net, function, classes)
    with limited(device, step.memory):
        check(step.name, [run()], [expected], [0.01])
        (seconds,) = by_turns({step.name: run}, repeats, device, warm_up=3).values()
        notes = [f"{step.batch * step.samples / statistics.median(seconds):,.0f} samples/s"]
        if device.type == "cuda":
            notes.append(f"peak {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB")
        show(step.name, [1e3 * s for s in seconds], "ms", *notes, f"goal {step.goal}", digits=3)
    return statistics.median(seconds)


def linearity(device: torch.device, repeats: int, exponents: range = range(17, 24), levels: tuple[LevelSpec, ...] = DEFAULT_LEVELS) -> None:
    """Times training steps of 2^17 to 2^23 samples; the goal is a time linear in the samples within 10 % from 2^20 on."""
    times: dict[int, float] = {}
    for exponent in exponents:
        step = Step(1, 2**exponent, "linear within 10 % from T = 1,048,576 on", recompute=True)
        times[step.samples] = training(step, device, repeats, levels)
    first = next((samples for samples in times if samples >= 2**20), None)
    if first is not None:
        shares = {samples: times[samples] / samples / (times[first] / first) for samples in times if samples >= first}
        print(f"time per sample relative to {first:,} samples:", ", ".join(f"{samples:,} {share:.3f}" for samples, share in shares.items()))


def check_gradients(net: HarmonicRNN, levels: tuple[LevelSpec, ...], classes: Tensor) -> None:
    """Raises UnequalError if gradients of the device's kernels, in float32 or bf16-mixed, differ from those of tensor operations."""
    gradients = []
    for scan, bfloat16 in (("auto", False), ("auto", True), ("reference", False)):
        twin = HarmonicRNN(levels, preset=PRESET, dropout=0.0, scan=scan).to(classes.device)
        twin.load_state_dict(net.state_dict())
        with torch.autocast(classes.device.type, torch.bfloat16, enabled=bfloat16):
            loss = sample_nats(twin(classes)[0], classes).mean()
        gradients.append(torch.autograd.grad(loss, list(twin.parameters())))
    single, mixed, expected = gradients
    check("gradients of the model", single, expected, [1e-3] * len(expected))
    for (name, _), value, reference in zip(net.named_parameters(), mixed, expected, strict=True):
        check_norm(f"gradient of {name} in bf16-mixed", (value - reference).norm(), reference.norm(), 0.25)


def check_norm(what: str, difference: Tensor, reference: Tensor, limit: float) -> None:
    """Raises UnequalError if the norm of a difference is at least `limit` times the reference's norm; used where rounding errors add up."""
    share = (difference / reference).item()
    if not share < limit:
        raise UnequalError(f"{what}: differs from its reference by {share:.1e} of its norm, more than {limit}")


@torch.no_grad()
def checked_loss(name: str, net: HarmonicRNN, function: Callable[..., Any], classes: Tensor, pieces: int = 2**17) -> Tensor:
    """Returns the mean loss in float32, computed in pieces with carried state.

    Raises:
        UnequalError: If the step's logits, in bf16-mixed and in one pass, differ from those in float32.
    """
    with torch.autocast(classes.device.type, torch.bfloat16):
        logits, _ = function(classes)
    steps, state = max(1, pieces // classes.shape[0]), None
    total, difference, norm = torch.zeros((3,), dtype=torch.float64, device=classes.device)
    for part, found in zip(classes.split(steps, dim=1), logits.split(steps, dim=1), strict=True):
        expected, state = net(part, state)
        total += sample_nats(expected, part).sum(dtype=torch.float64)
        difference += (found.float() - expected).square().sum(dtype=torch.float64)
        norm += expected.square().sum(dtype=torch.float64)
    check_norm(f"{name}, logits", difference.sqrt(), norm.sqrt(), 0.05)
    return total / classes.numel()


@contextmanager
def limited(device: torch.device, gigabytes: int | None) -> Iterator[None]:
    """Resets the peak memory, and limits this process to `gigabytes` of device memory (None: all of it) within the context."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes * 1e9 / total) if gigabytes else 1.0, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


STREAMS = {1: "none: the CPU is for one stream", 4096: "10,000,000 samples/s"}
"""Numbers of streams drawn together, with the goal for their total speed."""

CHECKED = 8
"""Lanes checked against the parallel forward pass; the logits of all lanes would not fit the memory."""


@torch.inference_mode()
def generation(streams: int, device: torch.device, repeats: int, net: HarmonicRNN | None = None, precision: str = "highest") -> None:
    """Times drawing two pooling periods in float32 on the device.

    Raises:
        UnequalError: If likelihoods differ from the forward pass, or restarting the engine gives other samples.
    """
    torch.manual_seed(0)
    net = (HarmonicRNN(preset=PRESET) if net is None else net).to(device).eval()
    what = f"generation, {streams:,} streams, {precision} precision of products"
    _, fresh = net(torch.zeros(streams, 0, dtype=torch.long, device=device))
    with products(precision):
        engine, uniforms = GraphEngine(net), torch.rand(streams, 2 * net.pooling_product, dtype=torch.float64, device=device)
        engine.start(fresh)
        classes, nats = engine.draw(uniforms, 1.0, 1.0)
        with products("highest"):
            expected, _ = net.nats(classes[:CHECKED].to(device))
        check(what, [nats[:CHECKED]], [expected.cpu()], 1e-4 if precision == "highest" else 1e-2)
        engine.start(fresh)
        if not torch.equal(engine.draw(uniforms, 1.0, 1.0)[0], classes):
            raise UnequalError(f"{what}: other classes were drawn from the same random numbers after a restart")
        (seconds,) = by_turns({what: lambda: engine.draw(uniforms, 1.0, 1.0)}, repeats, device, warm_up=3).values()
    goal = (f"goal {STREAMS[streams]}",) if streams in STREAMS else ()
    show(what, [streams * uniforms.shape[1] / s for s in seconds], "samples/s", *goal)


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Sets torch's precision of float32 matrix products within the context."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


Case = Callable[[torch.device, int], None]
Group = Literal["all", "recurrence", "training", "linearity", "generation", "tuning"]
SHAPES = ((1, MINUTE, 128), (16, 16_000, 128))

GROUPS: dict[str, list[Case]] = {
    "recurrence": [
        *(partial(fused, shape, dtype) for dtype in (torch.float32, torch.bfloat16) for shape in SHAPES),
        *(partial(against, MINUTE) for against in (against_plain, against_associative_scan, against_accelerated_scan)),
    ],
    "training": [partial(training, step) for step in STEPS],
    "linearity": [linearity],
    "generation": [
        *(partial(generation, streams) for streams in STREAMS),
        partial(generation, max(STREAMS), precision="high"),
    ],
    "tuning": [partial(tuning, constant, value, MINUTE) for constant, (_, values) in CONSTANTS.items() for value in values],
}


def gpu(repeats: PositiveInt = 20, only: Group = "all") -> None:
    """Checks and times the cases.

    Args:
        repeats: Timed runs of each case after three warm-up runs.
        only: Group of cases.
    """
    if not torch.cuda.is_available():
        raise UserError("benchmarks.gpu needs a CUDA device, and torch sees none on this machine: nothing was measured")
    report([case for name, group in GROUPS.items() if only in ("all", name) for case in group], torch.device("cuda"), repeats)


def report(cases: Sequence[Case], device: torch.device, repeats: int) -> None:
    """Prints the machine and the results of the cases; if a case fails, its error is printed and the others continue."""
    header("triton", device=device)
    for case in cases:
        try:
            case(device, repeats)
        except UnequalError as error:
            print(f"no speed is reported: {error}", flush=True)
        except torch.OutOfMemoryError:
            print("out of memory: no speed is reported for the rest of this case", flush=True)
        except Exception as error:  # any error of a compiler or driver; the other cases still run
            print(f"no speed is reported for the rest of this case: {type(error).__name__}: {error}", flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    raise SystemExit(benchmark(gpu))
