"""Rows of `benchmarks.gpu`: training steps of the default model in bf16-mixed, in time and memory."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.gpu_timing import check, row, seconds_of
from metrics import sample_nats
from models import HarmonicRNN, LevelSpec
from models.harmonic_rnn import DEFAULT_LEVELS


@dataclass(frozen=True)
class Step:
    """A training step: clips of so many samples, recomputed or not, within so many GB of the device's memory (None: all), compiled by
    torch or not."""

    batch: int
    samples: int
    goal: str
    recompute: bool = False
    memory: int | None = None
    compiled: bool = False

    @property
    def name(self) -> str:
        kept = "recomputed" if self.recompute else "no recomputation"
        options = f"{f' in {self.memory} GB' if self.memory else ''}{', torch.compile' if self.compiled else ''}"
        return f"training step B={self.batch} T={self.samples:,} {kept}{options}"


MINUTE = 960_000
STEPS = (
    Step(1, MINUTE, "150 ms"),
    Step(1, MINUTE, "150 ms", compiled=True),
    Step(1, MINUTE, "200 ms", recompute=True, memory=24),
    Step(16, 16_000, "8,000,000 samples/s"),
    Step(16, 16_000, "8,000,000 samples/s", compiled=True),
    Step(1, 8_000_000, "runs in 141 GB", recompute=True),
)


def training_rows(step: Step, device: torch.device, repeats: int, levels: tuple[LevelSpec, ...] = DEFAULT_LEVELS) -> Iterator[str]:
    """Forward, backward and AdamW; before it, gradients at a small size in float32 and the loss of the very case in bf16-mixed."""
    torch.manual_seed(0)
    net = HarmonicRNN(tuple(replace(level, recompute=step.recompute) for level in levels)).to(device)
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

    expected = loss_in_pieces(net, classes)
    with limited(device, step.memory):
        check(step.name, [run()], [expected], [0.01])
        seconds = seconds_of(run, device, repeats)
        notes = [f"{step.batch * step.samples / statistics.median(seconds):,.0f} samples/s"]
        if device.type == "cuda":
            notes.append(f"peak {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB")
        yield row(step.name, seconds, *notes, f"goal {step.goal}")


def linearity_rows(
    device: torch.device, repeats: int, exponents: range = range(17, 24), levels: tuple[LevelSpec, ...] = DEFAULT_LEVELS
) -> Iterator[str]:
    """Seconds a sample of a training step, from 2^17 to 2^23 samples; linear within 10 % from 2^20 on is the goal."""
    for exponent in exponents:
        step = Step(1, 2**exponent, "linear within 10 % from T = 1,048,576 on", recompute=True)
        yield from training_rows(step, device, repeats, levels)


def check_gradients(net: HarmonicRNN, levels: tuple[LevelSpec, ...], classes: Tensor) -> None:
    """Raises UnequalError where float32 gradients by the device's kernels differ from those by plain tensor operations."""
    gradients = []
    for scan in ("auto", "reference"):
        twin = HarmonicRNN(levels, scan=scan).to(classes.device)
        twin.load_state_dict(net.state_dict())
        loss = sample_nats(twin(classes)[0], classes).mean()
        gradients.append(torch.autograd.grad(loss, list(twin.parameters())))
    check("gradients of the model", *gradients, [1e-3] * len(gradients[0]))


@torch.no_grad()
def loss_in_pieces(net: HarmonicRNN, classes: Tensor, pieces: int = 2**17) -> Tensor:
    """The mean loss in float32, some samples at a time with the state carried on."""
    total, state = torch.zeros((), dtype=torch.float64, device=classes.device), None
    for part in classes.split(max(1, pieces // classes.shape[0]), dim=1):
        logits, state = net(part, state)
        total += sample_nats(logits, part).sum(dtype=torch.float64)
    return total / classes.numel()


@contextmanager
def limited(device: torch.device, gigabytes: int | None) -> Iterator[None]:
    """No more than so much of the device's memory; the peak is counted from here."""
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
