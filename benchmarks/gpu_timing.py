"""What the GPU benchmarks share: timing on the device, its copy bandwidth, checks before a speed, and lines that are printed."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

import torch
from torch import Tensor

from benchmarks.training_speed import processor
from harmonicrnn.provenance import code_version


class UnequalError(Exception):
    """A case that is not equal to its reference: no speed of it is printed."""


def check(what: str, values: Sequence[Tensor], references: Sequence[Tensor], limits: Sequence[float]) -> None:
    """Raises UnequalError where max|a - b| / max|b| of any pair is not below its limit; NaN never is."""
    for i, (value, reference, limit) in enumerate(zip(values, references, limits, strict=True)):
        error = ((value.detach() - reference.detach()).abs().max() / reference.detach().abs().max()).item()
        if not error < limit:
            raise UnequalError(f"{what}: value {i} differs from its reference by {error:.1e}, more than {limit:.0e}")


IN_A_ROW, SHORT = 10, 0.02


def seconds_of(function: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Seconds of a call in each repeat, after three that warm up: of calls shorter than 20 ms the mean of ten in a row, so that, as in a
    training, the device works on one while the host prepares the next."""
    for _ in range(3):
        warm = _timed(function, device, 1)
    calls = IN_A_ROW if warm < SHORT else 1
    return [_timed(function, device, calls) for _ in range(repeats)]


def _timed(function: Callable[[], object], device: torch.device, calls: int) -> float:
    _wait(device)
    started = time.perf_counter()
    for _ in range(calls):
        function()
    _wait(device)
    return (time.perf_counter() - started) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_bandwidth(device: torch.device, size: int, repeats: int) -> float:
    """Bytes a second of a copy of `size` bytes on the device, read and written counted."""
    source = torch.zeros(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / statistics.median(seconds_of(lambda: target.copy_(source), device, repeats))


def row(what: str, seconds: list[float], *notes: str) -> str:
    """One line: the median and the spread in milliseconds, and what they mean."""
    times = f"{statistics.median(seconds) * 1e3:9.3f} ms ({min(seconds) * 1e3:.3f} to {max(seconds) * 1e3:.3f})"
    return "; ".join([f"{what:62s} {times}", *notes])


def header(device: torch.device) -> list[str]:
    """The machine and the versions that the numbers below it belong to."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "triton"))
    return [
        f"device   {name}",
        f"versions {versions}, CUDA {torch.version.cuda}, python {platform.python_version()}, commit {code_version()}",
    ]
