"""Utilities of the benchmarks: options, machine, equality checks, timing of cases in turn, peak memory and printing."""

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
    """Raised if a result differs from its reference; its timing is then not printed."""


def benchmark(*functions: Callable[..., None], args: Sequence[str] | None = None) -> int:
    """Runs a function with options from the command line, or one of several by name, and returns the exit status.

    The options follow the function's signature. If a measurement fails or a number is too large, prints one line of error and returns 2.

    Args:
        functions: One function, or the subcommands.
        args: Arguments; None for those of the command line.
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
    """Prints the machine, the versions of libraries and the commit."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, {torch.get_num_threads()} threads"
    versions = ", ".join(f"{library} {version(library)}" for library in ("torch", *libraries))
    print(f"device   {name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"versions {versions}, CUDA {torch.version.cuda}, python {platform.python_version()}, commit {code_version()}", flush=True)


def processor() -> str:
    """Returns the name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())


def check(what: str, values: Sequence[Tensor], references: Sequence[Tensor], limits: Sequence[float] | float) -> float:
    """Returns the largest relative error max|a - b| / max|b| of the pairs.

    Raises:
        UnequalError: If an error is not below its limit, or is NaN.
    """
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
    """Times the cases in turn and returns the seconds of each repeat.

    On a GPU, calls shorter than 20 ms are timed as the mean of ten in a row, so that the host prepares a call while the device still works
    on the one before, as in a training.

    Args:
        cases: Functions by name.
        repeats: Timed rounds.
        device: Device to synchronise with.
        clock: Clock in seconds.
        warm_up: Rounds before the timed ones; at least 1.
    """

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
    """Prints median, minimum, maximum and notes; returns the median."""
    median, low, high = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    print("; ".join([f"{what:58s} {median:>10s} {unit} ({low} to {high})", *notes]), flush=True)
    return statistics.median(values)


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Returns the median of the ratios of the values, turn by turn."""
    return statistics.median(value / other for value, other in zip(values, others, strict=True))


def reset_peak() -> int | None:
    """Resets the peak of the resident memory and returns the current one in bytes; None if the system does not support it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return resident("VmRSS")
    except OSError:
        return None


def resident(key: str = "VmHWM") -> int:
    """Returns a memory figure of this process from /proc in bytes; by default the resident peak since `reset_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def processes(count: int = 1) -> ProcessPoolExecutor:
    """Returns a pool of new interpreters; forks would start with the memory of this process."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"))


def alone(task: Callable[..., Any], *arguments: object) -> Any:
    """Runs a task in a new process and returns its result."""
    with processes() as pool:
        return pool.submit(task, *arguments).result()


def peak_above(task: Callable[..., Any], *arguments: object) -> tuple[Any, int]:
    """Runs a task; returns its result and the peak of the resident memory above that before it, in bytes.

    Raises:
        UserError: If the system does not report the peak.
    """
    before = reset_peak()
    if before is None:
        raise UserError("the system does not report the peak memory of a process (/proc/self/clear_refs): nothing is measured")
    result = task(*arguments)
    return result, resident() - before
