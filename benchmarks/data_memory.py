"""Peak memory of a process that prepares a long recording or reads it in chunks, above what it needs once its libraries are imported.

    python -m benchmarks.data_memory [--minutes N] [--chunk N]

Two figures of each: all resident memory, in which pages of the shard that are mapped count though the system may drop them at any time, and
memory of the process's own (anonymous), sampled every millisecond. Each task runs in a process of its own, on a made-up recording.
"""

import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread

import torch
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt

from benchmarks.recordings import prepared, record
from benchmarks.training_speed import processor
from datamodules.clip_dataset import ClipDataset
from datamodules.loader import EvaluationLoader, RankBatches
from datamodules.orders import Clips, clip_table
from datamodules.preparation import prepare_shards
from datamodules.shard_recordings import Recordings
from harmonicrnn.audio import Quantiser
from harmonicrnn.provenance import code_version

RATE, SOURCE_RATE = 16_000, 44_100


def main(minutes: PositiveInt = 60, chunk: PositiveInt = 1 << 20) -> None:
    """Runs the tasks.

    Args:
        minutes: Length of the recording.
        chunk: Samples in a chunk that is read, in batches of one.
    """
    print(f"device   {processor()}")
    print(f"versions torch {version('torch')}, numpy {version('numpy')}, python {platform.python_version()}, commit {code_version()}")
    # A new interpreter for each task: a fork would begin with this one's memory.
    with tempfile.TemporaryDirectory() as folder, get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        root = Path(folder)
        for suffix in ("wav", "flac"):
            path = root / f"{suffix}.{suffix}"
            record(path, minutes, SOURCE_RATE, channels=2)
            print(f"{f'prepare {minutes} min of stereo {suffix}':40s} {pool.apply(measured, (prepare, path, minutes))}", flush=True)
            path.unlink()
        recordings = prepared(root / "long", files=1, minutes=minutes)
        print(f"{f'read {minutes} min in chunks of {chunk:,}':40s} {pool.apply(measured, (read, recordings, chunk))}", flush=True)


def prepare(path: Path, minutes: int) -> None:
    """The whole of `prepare` for one stereo file."""
    (entry,) = prepare_shards(path.parent, {"train": [path]}, path.with_suffix(""), RATE).values()
    if entry.length != minutes * 60 * RATE:
        raise SystemExit(f"{path}: {entry.length} samples came of {minutes} minutes: no memory is reported")


def read(recordings: Recordings, chunk: int) -> None:
    """All chunks as batches, shuffled, under the scaling that reads most."""
    dataset = ClipDataset(recordings, chunk, Quantiser(), "clip")
    order = Clips(clip_table(recordings.lengths, chunk, keep_tails=True), 1, 0, shuffle=True)
    samples = sum(int(batch.valid.sum()) for batch in EvaluationLoader(dataset, RankBatches(order, 0, 1), num_workers=0))
    if samples != sum(recordings.lengths):
        raise SystemExit(f"{samples} of {sum(recordings.lengths)} samples were read: no memory is reported")


def measured(task: Callable[..., None], *arguments: object) -> str:
    """The peaks of this process during a task, above what it had before."""
    torch.set_num_threads(1)
    before, own, done = status("VmRSS"), status("RssAnon"), Event()
    peak = own

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, status("RssAnon"))
            time.sleep(1e-3)

    Path("/proc/self/clear_refs").write_text("5")  # the highest value so far is forgotten
    watcher = Thread(target=watch)
    watcher.start()
    try:
        task(*arguments)
    finally:
        done.set()
        watcher.join()
    return f"resident +{status('VmHWM') - before:.0f} MB, own +{peak - own:.0f} MB (before: {before:.0f} MB, own {own:.0f} MB)"


def status(key: str) -> float:
    """MB, as Linux counts this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    auto_cli(main)
