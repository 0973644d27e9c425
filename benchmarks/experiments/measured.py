"""One run in a process of its own: what it took."""

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
    """The exit status of `function` in a forked process, which has imported everything already and its memory to itself.

    `log` takes what it prints. Signals that ask this process to stop are passed on to it.
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
    signal.signal(signal.SIGINT, lambda *_: None)  # a terminal sends it to both
    try:
        child.join()
        return child.exitcode or 0
    finally:
        restore(before)


def train(args: Sequence[str], ranks: int, attempts: Path) -> int:
    """`fit` with these arguments; its exit status. `attempts` gets a line of JSON of this one: its status, its seconds, its peak memory
    (bytes; null if not known), and whether it went on from a checkpoint.

    Several ranks are processes that Lightning starts by the program's own name, so that program is started.
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
        file.write(f"\n{json.dumps(taken)}\n")  # the line before may have been cut short
    return status


def evaluate(checkpoint: Path, args: Sequence[str]) -> int:
    """`test` of a checkpoint, by one process; its exit status."""
    from cli import main

    alone = ["--trainer.devices", "1", "--trainer.strategy", "auto"]
    return main(["test", "--ckpt_path", str(checkpoint), "--trainer.enable_progress_bar", "false", *alone, *args])


def sample(checkpoint: Path, samples: int, measured: Path, device: str) -> int:
    """Draws from a model on a device, and writes how many samples a second it makes.

    The first ones, for which code is compiled, do not count.
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
    """What TensorBoard was told in training: of each tag the (steps made, value) pairs in order, the last of each."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    wanted = ("val/bits", "train/samples_per_second")
    found: dict[str, Any] = {tag: events.Scalars(tag) if tag in events.Tags()["scalars"] else [] for tag in wanted}
    return {tag: sorted({event.step + 1: event.value for event in scalars}.items()) for tag, scalars in found.items()}
