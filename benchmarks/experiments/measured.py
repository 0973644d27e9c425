"""Training, evaluation and sampling of one run in a separate process, with time and peak memory."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.experiments.declare import ROOT
from benchmarks.timing import reset_peak, resident
from harmonicrnn.signals import STOPPING, restore


def in_child(function: Callable[[], int], log: Path) -> int:
    """Runs `function` in a forked process and returns its exit status.

    The output is appended to `log`. Signals that stop this process are forwarded to the child.
    """

    def logged() -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.exit(function())

    child = get_context("fork").Process(target=logged)
    child.start()
    pid: Any = child.pid

    def pass_on(signum: int, _: Any) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)

    before = {each: signal.signal(each, pass_on) for each in STOPPING}
    signal.signal(signal.SIGINT, lambda *_: None)  # terminals send it to both processes
    try:
        child.join()
        return child.exitcode or 0
    finally:
        restore(before)


def train(args: Sequence[str], ranks: int, attempts: Path) -> int:
    """Runs `fit` with these arguments and returns its exit status.

    Appends a line of JSON to `attempts`: exit status, seconds, peak memory in bytes (null if unknown), and whether the training was resumed
    from a checkpoint. With several ranks `train.py` is started as a program, since Lightning starts the other ranks by its name.
    """
    started, went_on = time.perf_counter(), any(attempts.parent.rglob("last.ckpt"))
    peak: int | None = None
    if ranks > 1:
        status = subprocess.run([sys.executable, str(ROOT / "train.py"), *args], check=False).returncode
    else:
        from cli import main

        before = reset_peak()
        status = main(args)
        peak = None if before is None else resident() - before
        if torch.cuda.is_initialized():
            peak = torch.cuda.max_memory_allocated()
    taken = {"status": status, "seconds": time.perf_counter() - started, "peak_memory": peak, "went_on": went_on}
    with attempts.open("a") as file:
        file.write(f"\n{json.dumps(taken)}\n")  # a kill may have cut off the previous line
    return status


def evaluate(checkpoint: Path, args: Sequence[str]) -> int:
    """Runs `test` on a checkpoint in one process and returns its exit status."""
    from cli import main

    alone = ["--trainer.devices", "1", "--trainer.strategy", "auto"]
    return main(["test", "--ckpt_path", str(checkpoint), "--trainer.enable_progress_bar", "false", *alone, *args])


def sample(checkpoint: Path, samples: int, measured: Path, device: str) -> int:
    """Writes the speed of generation on a device in samples/s to the JSON file `measured`, and returns 0.

    A first, shorter generation that compiles the code is not timed.
    """
    from harmonicrnn.generation import generate
    from lightning_modules import load_module

    module = load_module(checkpoint).to(device).eval()
    generate(module.net, min(samples, 256), seed=0)
    started = time.perf_counter()
    generate(module.net, samples, seed=1)
    measured.write_text(json.dumps(samples / (time.perf_counter() - started)))
    return 0


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns the TensorBoard scalars of a training as sorted (steps, value) pairs by tag; the last value of a step counts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    wanted = ("val/bits", "train/samples_per_second")
    found: dict[str, Any] = {tag: events.Scalars(tag) if tag in events.Tags()["scalars"] else [] for tag in wanted}
    return {tag: sorted({event.step + 1: event.value for event in scalars}.items()) for tag, scalars in found.items()}
