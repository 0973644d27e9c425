"""Samples per second read from shards as classes, milliseconds to a random chunk of a long recording, and the speed of preparing.

    python -m benchmarks.data_speed [--hours N] [--repeats N]

One process, one thread, on made-up recordings in a temporary folder (2 GB by default), just written and so in the disk cache. Before any
timing what is read is checked: classes against the formulas over plainly read samples, shards against the source
resampled in one piece.
"""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np
import soundfile
import soxr
import torch
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt

from benchmarks.recordings import prepared, record
from benchmarks.training_speed import processor, timed
from datamodules.clip_dataset import ClipDataset
from datamodules.loader import EvaluationLoader, RankBatches
from datamodules.orders import Clips, Piece, clip_table
from datamodules.preparation import FULL_SCALE, prepare_shards, shard_path
from datamodules.shard_recordings import Recordings
from harmonicrnn.audio import Quantiser, Scaling, scale
from harmonicrnn.audio.quantise import Law
from harmonicrnn.provenance import code_version

CLIP = 131_072
CHUNK = 1 << 20
BATCH = 4
CLIPS_A_REPEAT = 200


def main(hours: PositiveInt = 10, repeats: PositiveInt = 7) -> None:
    """Checks, then times.

    Args:
        hours: Length of the long recording.
        repeats: Timed passes, after one that warms up.
    """
    torch.set_num_threads(1)
    print(f"device   {processor()}, 1 thread")
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "soundfile", "soxr"))
    print(f"versions {libraries}, python {platform.python_version()}, commit {code_version()}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        time_clips(prepared(root / "clips", files=8, minutes=30), repeats)
        time_chunks(prepared(root / "long", files=1, minutes=60 * hours), repeats)
        for suffix in ("wav", "flac"):
            time_preparing(root / suffix, suffix, repeats)


def time_clips(recordings: Recordings, repeats: int) -> None:
    """Shuffled clips as classes, under each law and scaling; then as batches out of a worker process."""
    table = clip_table(recordings.lengths, CLIP, keep_tails=False)
    rng = np.random.default_rng(0)
    for law in get_args(Law):
        for scaling in get_args(Scaling):
            dataset = ClipDataset(recordings, CLIP, Quantiser(8, law), scaling)
            check_clips(dataset, [table[i] for i in rng.choice(len(table), 20)])

            def read(dataset: ClipDataset = dataset) -> None:
                for i in rng.choice(len(table), CLIPS_A_REPEAT):
                    dataset[table[i]]

            report(f"clips, {law}, {scaling}", (CLIPS_A_REPEAT * CLIP / s / 1e6 for s in timed(read, repeats)), "M samples/s")
    dataset = ClipDataset(recordings, CLIP, Quantiser(), "clip")
    loader = EvaluationLoader(dataset, RankBatches(Clips(table, BATCH, 0, shuffle=True), 0, 1), num_workers=1)
    samples = BATCH * CLIP * len(loader)
    report("out of a worker", (samples / s / 1e6 for s in timed(lambda: [None for _ in loader], repeats)), "M samples/s (mu-law, clip)")


def check_clips(dataset: ClipDataset, pieces: list[Piece]) -> None:
    """Raises where a clip's classes are not those of its samples, read plainly from the shard and scaled by their own extremes."""
    recordings = dataset.source
    assert isinstance(recordings, Recordings)
    for piece in pieces:
        whole = np.fromfile(shard_path(recordings.shards, recordings.entries[piece.recording].source), "<i2")
        samples = whole[piece.start : piece.stop]
        of = {"clip": samples, "file": whole}.get(dataset.scaling)
        span = None if of is None else (of.min() / FULL_SCALE, of.max() / FULL_SCALE)
        expected = dataset.quantiser.encode(scale(torch.from_numpy(samples.astype(np.float32) / FULL_SCALE), span))
        if not torch.equal(dataset[piece].classes, expected):
            raise SystemExit(f"{piece}: the classes are not those of its samples: no speed is reported")


def time_chunks(recordings: Recordings, repeats: int) -> None:
    """The raw samples of a random chunk, copied out of the map."""
    (length,) = recordings.lengths
    shard = shard_path(recordings.shards, recordings.entries[0].source)
    starts = iter(np.random.default_rng(1).integers(0, length - CHUNK, 3 * (repeats + 1)).tolist())
    first = next(starts)
    if not np.array_equal(recordings.read(0, first, first + CHUNK), np.fromfile(shard, "<i2", CHUNK, offset=2 * first)):
        raise SystemExit("a chunk differs from the shard's bytes: no speed is reported")

    def read(recordings: Recordings = recordings) -> None:
        start = next(starts)
        np.array(recordings.read(0, start, start + CHUNK))

    what = f"of {length:,} samples, {CHUNK:,} raw"
    report(what, (s * 1e3 for s in timed(read, repeats)), "ms, disk cache warm")
    cold = []
    for _ in range(repeats):
        with shard.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        # A map of its own: pages that are still mapped stay in the cache.
        read(Recordings(recordings.shards, recordings.entries))
        cold.append(time.perf_counter() - started)
    report(what, (s * 1e3 for s in cold), "ms, shard dropped from the disk cache")


def time_preparing(folder: Path, suffix: str, repeats: int, minutes: int = 10, rate: int = 44_100) -> None:
    """From a stereo file to a shard on disk with its line in the manifest."""
    folder.mkdir()
    path = folder / f"a.{suffix}"
    record(path, minutes, rate, channels=2)
    made = iter(range(repeats + 2))

    def prepare() -> Recordings:
        shards = folder / f"shards{next(made)}"
        return Recordings(shards, list(prepare_shards(folder, {"train": [path]}, shards, 16_000).values()))

    recordings = prepare()
    stereo, _ = soundfile.read(path, dtype="float32")
    whole = np.rint(soxr.resample(stereo.mean(axis=1), rate, 16_000, quality="HQ") * FULL_SCALE)
    difference = np.abs(recordings.read(0, 0, recordings.lengths[0]) - whole).max()
    if difference > 1:
        raise SystemExit(f"the shard differs from its source resampled in one piece by {difference} levels: no speed is reported")
    share = path.stat().st_size / (4 * len(stereo))
    what = f"prepare stereo {suffix}"
    report(what, (60 * minutes / s for s in timed(prepare, repeats)), f"times real time ({rate} to 16000 Hz, {share:.0%} of raw size)")


def report(what: str, values: Iterable[float], unit: str) -> None:
    values = list(values)
    print(f"{what:40s} {statistics.median(values):7.1f} (lowest {min(values):.1f}, highest {max(values):.1f}) {unit}", flush=True)


if __name__ == "__main__":
    auto_cli(main)
