"""Training speed on a CPU: the model, a step without pooling, the scan, and ways in which OpenMP threads wait.

    python -m benchmarks.training_speed model [--samples N] [--repeats N]
    OMP_NUM_THREADS=1 python -m benchmarks.training_speed pooling
    OMP_NUM_THREADS=1 python -m benchmarks.training_speed scan [--samples N] [--units N] [--repeats N]
    python -m benchmarks.training_speed waiting [--beside N] [--repeats N]

Before `model` and `scan` are timed, the recurrence is checked against its float64 reference at the same size; `model` also checks the model
in two pieces against one pass. The ablations take their equal time from `pooling`.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from unittest.mock import patch

import torch
from jsonargparse.typing import NonNegativeInt, PositiveInt
from omegaconf import OmegaConf
from torch import Tensor

from benchmarks.timing import UnequalError, alone, benchmark, by_turns, check, header, ratio, show
from harmonicrnn.models import HarmonicRNN, LevelSpec
from harmonicrnn.models.presets import PRESETS
from harmonicrnn.ops import choose, linear_scan
from harmonicrnn.ops.reference import linear_scan_reference
from harmonicrnn.ops.scan import scan_summary

DEMO = Path(__file__).parents[1] / "configs/demo.yaml"
UNPOOLED = (LevelSpec(32, 5),)
GOAL = 0.6  # of the copy's speed, for the scan
BUSY = "import os\nwhile os.getppid() == {}: pass"
"""Program that keeps a core busy until its parent, whose process id goes into the braces, ends."""
WAITING = {
    "libgomp's default": {},
    "sleeping at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spinning briefly": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"},
}


def model(samples: PositiveInt = 16_000, repeats: PositiveInt = 7) -> None:
    """Times forward, and forward + backward with dropout, of the model of configs/sc09.yaml in float32, with the block of each preset.

    Args:
        samples: Length of the clip.
        repeats: Timed passes of each case, in turn, after one warm-up pass.
    """
    classes = torch.randint(256, (1, samples), generator=torch.Generator().manual_seed(0))
    check_recurrence(samples)
    cases: dict[str, Callable[[], object]] = {}
    sizes = []
    for preset in PRESETS:
        torch.manual_seed(0)
        net = HarmonicRNN(preset=preset)
        check_pieces(net.eval(), classes)
        sizes.append(f"{preset} {sum(p.numel() for p in net.parameters()):,}")
        cases[f"{preset}, forward"] = torch.no_grad()(lambda net=net: net.eval()(classes))
        cases[f"{preset}, forward + backward"] = gradients_of(net, classes)
    header("numba")
    print(f"model    parameters: {', '.join(sizes)}; 1 x {samples:,} samples, float32, {repeats} repeats")
    seconds = by_turns(cases, repeats)
    for name, values in seconds.items():
        show(name, [samples / s for s in values], "samples/s")
    print(f"ratio    {ratio(seconds['griffin, forward + backward'], seconds['paper, forward + backward']):.2f} of griffin's training speed")


def check_pieces(net: HarmonicRNN, classes: Tensor) -> None:
    """Raises UnequalError if the model in two pieces differs from one pass."""
    third = classes.shape[1] // 3 + 1
    with torch.no_grad():
        first, state = net(classes[:, :third])
        pieces = torch.cat([first, net(classes[:, third:], state)[0]], dim=1)
        check("the model in pieces", [pieces], [net(classes)[0]], 1e-5)


def gradients_of(net: HarmonicRNN, classes: Tensor) -> Callable[[], object]:
    """Returns a function that computes the gradients of all parameters."""
    return lambda: torch.autograd.grad(net.train().nats(classes)[0].mean(), list(net.parameters()))


def check_recurrence(samples: int, units: int = 64) -> None:
    """Raises UnequalError if outputs or gradients of the fast scan differ from the float64 reference at this size."""
    a = torch.polar(torch.rand(1, samples, units) * 0.9999, torch.rand(1, samples, units)).requires_grad_()
    x = torch.randn(1, samples, units, dtype=torch.complex64, requires_grad=True)
    weights = torch.randn(1, samples, units, dtype=torch.complex64)
    h, _ = linear_scan(a, x)
    wide = [t.detach().to(torch.complex128).requires_grad_() for t in (a, x)]
    expected, _ = linear_scan_reference(*wide, torch.zeros(1, units, dtype=torch.complex128))
    found, right = (torch.autograd.grad((y * weights).sum().real, of) for y, of in ((h, (a, x)), (expected, wide)))
    check("the recurrence", (h, *found), (expected, *right), (1e-5, 1e-4, 1e-4))


def pooling(repeats: PositiveInt = 60) -> None:
    """Times training steps of the model of configs/demo.yaml with and without pooling, in processor time.

    Args:
        repeats: Timed steps of each model after three warm-up steps.
    """
    settings = OmegaConf.load(DEMO)
    levels = {"pooled": tuple(LevelSpec(**level) for level in settings.model.levels), "unpooled": UNPOOLED}
    cases = {name: training_step(each, settings) for name, each in levels.items()}
    header()
    seconds = by_turns(cases, repeats, clock=time.process_time, warm_up=3)
    for name, values in seconds.items():
        show(name, [1e3 * s for s in values], "ms a step", digits=1)
    print(f"ratio    {ratio(seconds['unpooled'], seconds['pooled']):.2f}")


def training_step(levels: tuple[LevelSpec, ...], settings: OmegaConf) -> Callable[[], float]:
    """Returns a function that makes an AdamW step on random classes, with the config's batch size and clip length, and returns the loss."""
    torch.manual_seed(0)
    net = HarmonicRNN(levels, **{key: settings.model[key] for key in ("preset", "heads", "expansion")})
    optimizer, data = torch.optim.AdamW(net.parameters()), settings.data.init_args
    classes = torch.randint(2**net.bits, (data.batch_size, data.clip_samples))

    def step() -> float:
        optimizer.zero_grad()
        loss = net.nats(classes)[0].mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def scan(samples: PositiveInt = 16_000, units: PositiveInt = 64, repeats: PositiveInt = 41) -> None:
    """Times the CPU's complex scan in bytes per second, relative to a memory copy.

    Bytes read and written, in units of one (1, T, N) complex64 tensor: forward 3 (reads a and x, writes h), forward + backward 8 (also
    reads a, h and the gradient of h, and writes two gradients), summary 2. The copy reads and writes as many bytes in total as the forward,
    and is timed in turn with the others. The goal is a forward with at least 60 % of the copy's speed.

    Args:
        samples: T, steps of the scan.
        units: N, complex units.
        repeats: Timed rounds after one warm-up round.
    """
    torch.manual_seed(0)
    check_recurrence(samples, units)
    a = torch.polar(torch.rand(1, samples, units) * 0.9999, torch.rand(1, samples, units)).requires_grad_()
    x, weights = (torch.randn(1, samples, units, dtype=torch.complex64) for _ in range(2))
    x.requires_grad_()
    unit = a.numel() * a.element_size()
    source, target = torch.randn(2, 3 * unit // 8)
    cases = {
        "copy": (lambda: target.copy_(source), 3 * unit),
        "forward": (torch.no_grad()(lambda: linear_scan(a, x)), 3 * unit),
        "forward + backward": (lambda: torch.autograd.grad(linear_scan(a, x)[0], (a, x), weights), 8 * unit),
        "summary": (lambda: scan_summary(a.detach(), x.detach(), torch.zeros_like(x[:, 0]), choose("auto", x.device).name), 2 * unit),
    }
    header("numba")
    print(f"scan     1 x {samples:,} x {units} complex64, {repeats} repeats")
    timed = by_turns({name: function for name, (function, _) in cases.items()}, repeats)
    rates = {name: [cases[name][1] / s / 1e9 for s in seconds] for name, seconds in timed.items()}
    for name, rate in rates.items():
        median, best = (reduced(rate) / reduced(rates["copy"]) for reduced in (statistics.median, max))
        goal = ", goal {:.0%}: {}".format(GOAL, "met" if min(median, best) >= GOAL else "missed") if name == "forward" else ""
        show(name, rate, "GB/s", f"{median:.0%} of the copy by medians, {best:.0%} by the highest{goal}", digits=1)


def waiting(beside: NonNegativeInt = 0, steps: PositiveInt = 40, repeats: PositiveInt = 7) -> None:
    """Times training steps of the model of configs/demo.yaml on two threads with different OpenMP wait policies, in new processes.

    Args:
        beside: Number of other processes that each keep a core busy.
        steps: Timed steps of a process after three warm-up steps.
        repeats: Processes for each policy, in turn.
    """
    kept = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    losses = set()

    def timed(name: str) -> float:
        with patch.dict(os.environ, kept | WAITING[name] | {"OMP_NUM_THREADS": "2"}, clear=True):
            seconds, loss = alone(several_steps, steps)
        losses.add(loss)
        return seconds

    header()
    seconds: dict[str, list[float]] = {name: [] for name in WAITING}
    others = [Popen([sys.executable, "-c", BUSY.format(os.getpid())]) for _ in range(beside)]
    try:
        for _ in range(repeats):
            for name in WAITING:
                seconds[name].append(timed(name))
    finally:
        for other in others:
            other.kill()
    if len(losses) > 1:
        raise UnequalError(f"losses after the same steps differ: {losses}")
    for name, values in seconds.items():
        show(name, [1e3 * s for s in values], "ms a step", f"{ratio(values, seconds[next(iter(WAITING))]):.2f} of the default's", digits=1)


def several_steps(steps: int) -> tuple[float, float]:
    """Returns the mean seconds of a step, and the loss of the last one."""
    settings = OmegaConf.load(DEMO)
    step = training_step(tuple(LevelSpec(**level) for level in settings.model.levels), settings)
    for _ in range(3):
        step()
    started = time.perf_counter()
    for _ in range(steps):
        loss = step()
    return (time.perf_counter() - started) / steps, loss


if __name__ == "__main__":
    raise SystemExit(benchmark(model, pooling, scan, waiting))
