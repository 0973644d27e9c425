"""What the benchmarks share: options, the machine, checks before a figure, timing by turns, peaks of memory, and lines that are printed."""

import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor

from harmonicrnn.errors import UserError
from harmonicrnn.provenance import code_version

CPU = torch.device("cpu")
IN_A_ROW, SHORT = 10, 0.02
TOO_LARGE = re.compile("can't allocate memory|out of memory|overflow", re.IGNORECASE)


class UnequalError(UserError):
    """A case that is not equal to its reference: no figure of it is printed."""


def benchmark(*functions: Callable[..., None], args: Sequence[str] | None = None) -> int:
    """Reads the options of a function, or of the one that is named, by its signature, and runs it; returns the exit status.

    What cannot be measured, and numbers that do not fit together, are told in a line.
    """
    try:
        auto_cli(functions[0] if len(functions) == 1 else list(functions), args=None if args is None else list(args), allow_abbrev=False)
    except (UserError, ValueError, OverflowError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, TypeError) as error:
        if not TOO_LARGE.search(str(error)):
            raise
        print(f"error: a number is too large for this machine: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    return 0


def header(*libraries: str, device: torch.device = CPU) -> None:
    """Prints the machine and the versions that the figures below belong to."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, {torch.get_num_threads()} threads"
    versions = ", ".join(f"{library} {version(library)}" for library in ("torch", *libraries))
    print(f"device   {name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"versions {versions}, CUDA {torch.version.cuda}, python {platform.python_version()}, commit {code_version()}", flush=True)


def processor() -> str:
    """The processor's name, as Linux gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())


def check(what: str, values: Sequence[Tensor], references: Sequence[Tensor], limits: Sequence[float] | float) -> float:
    """The largest max|a - b| / max|b| of the pairs; raises UnequalError where one is not below its limit, as NaN never is."""
    errors = []
    of = [limits] * len(values) if isinstance(limits, float) else limits
    for i, (value, reference, limit) in enumerate(zip(values, references, of, strict=True)):
        errors.append(((value.detach() - reference.detach()).abs().max() / reference.detach().abs().max()).item())
        if not errors[-1] < limit:
            raise UnequalError(f"{what}: value {i} differs from its reference by {errors[-1]:.1e}, more than {limit:.0e}")
    return max(errors)


def by_turns(
    cases: Mapping[str, Callable[[], object]],
    repeats: int,
    device: torch.device = CPU,
    clock: Callable[[], float] = time.perf_counter,
    warm_up: int = 1,
) -> dict[str, list[float]]:
    """Seconds of each case's repeats, the cases taking turns, after some rounds that warm up; on a GPU of calls shorter than 20 ms the mean
    of ten in a row, so that, as in a training, the device works on one while the host prepares the next."""

    def timed(function: Callable[[], object], calls: int) -> float:
        _wait(device)
        started = clock()
        for _ in range(calls):
            function()
        _wait(device)
        return (clock() - started) / calls

    warm = [{name: timed(function, 1) for name, function in cases.items()} for _ in range(warm_up)][-1]
    calls = {name: IN_A_ROW if device.type == "cuda" and seconds < SHORT else 1 for name, seconds in warm.items()}
    rounds = [{name: timed(function, calls[name]) for name, function in cases.items()} for _ in range(repeats)]
    return {name: [each[name] for each in rounds] for name in cases}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def show(what: str, values: Sequence[float], unit: str, *notes: str, digits: int = 0) -> float:
    """Prints the median, the spread and what they mean; returns the median."""
    median, low, high = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    print("; ".join([f"{what:58s} {median:>10s} {unit} ({low} to {high})", *notes]), flush=True)
    return statistics.median(values)


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios of each turn."""
    return statistics.median(value / other for value, other in zip(values, others, strict=True))


def reset_peak() -> int | None:
    """Resident bytes now, from which on the peak is measured; None where the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return resident("VmRSS")
    except OSError:
        return None


def resident(key: str = "VmHWM") -> int:
    """Bytes of this process as Linux counts them; by default the most that were resident since `reset_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def processes(count: int = 1) -> ProcessPoolExecutor:
    """New interpreters, as a fork would begin with this one's memory."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"))


def alone(task: Callable[..., Any], *arguments: object) -> Any:
    """What a task returns in a process of its own."""
    with processes() as pool:
        return pool.submit(task, *arguments).result()


def peak_above(task: Callable[..., Any], *arguments: object) -> tuple[Any, int]:
    """What a task returns, and the most bytes that were resident during it above those before it."""
    before = reset_peak()
    if before is None:
        raise UserError("the system does not tell a process's peak of memory (/proc/self/clear_refs): nothing is measured")
    result = task(*arguments)
    return result, resident() - before
