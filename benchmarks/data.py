"""Speed and memory of preparing and reading data, on synthetic recordings in a temporary folder.

    python -m benchmarks.data speed [--minutes N] [--repeats N]
    python -m benchmarks.data memory [--minutes N] [--chunk N]

One process and one thread; the files have just been written, so they are in the disk cache. Before any timing the results are checked:
classes against the quantised samples of the shard, and shards against the source resampled in one piece.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from jsonargparse.typing import PositiveInt

from benchmarks.timing import UnequalError, alone, benchmark, by_turns, header, peak_above, show
from datamodules.clip_dataset import ClipDataset, Recordings
from datamodules.loader import EvaluationLoader, RankBatches
from datamodules.orders import Clips, Piece, clip_table
from datamodules.preparation import FULL_SCALE, prepare_shards, shard_path
from harmonicrnn.audio import Quantiser, compose, render, scale

CLIP, CLIPS_A_REPEAT = 131_072, 200
RATE, SOURCE_RATE = 16_000, 44_100
NOISE = 0.002  # -54 dB, like a room: without it FLAC would be faster than on real recordings


def speed(minutes: PositiveInt = 30, repeats: PositiveInt = 7) -> None:
    """Measures the speed of reading shuffled clips (8-bit mu-law, scaled per clip) and of preparing stereo files at 44.1 kHz.

    Args:
        minutes: Length of each of eight recordings; the stereo files have a third of it.
        repeats: Timed passes after one warm-up pass.
    """
    torch.set_num_threads(1)
    header("numpy", "soundfile", "soxr")
    with tempfile.TemporaryDirectory() as folder:
        recordings = prepared(Path(folder) / "clips", 8, minutes)
        table, rng = clip_table(recordings.lengths, CLIP, keep_tails=False), np.random.default_rng(0)
        dataset = ClipDataset(recordings, CLIP, Quantiser(), "clip")
        check_clips(dataset, [table[i] for i in rng.choice(len(table), 20)])
        cases: dict[str, Callable[[], object]] = {
            "reading clips": lambda: [dataset[table[i]] for i in rng.choice(len(table), CLIPS_A_REPEAT)]
        }
        show("reading clips", [CLIPS_A_REPEAT * CLIP / s / 1e6 for s in by_turns(cases, repeats)["reading clips"]], "M samples/s", digits=1)
        length = max(1, minutes // 3)
        cases = {f"preparing stereo {suffix}": checked_preparing(Path(folder) / suffix, suffix, length) for suffix in ("wav", "flac")}
        for name, seconds in by_turns(cases, repeats).items():
            show(name, [60 * length / s for s in seconds], f"times real time, {SOURCE_RATE} to {RATE} Hz")


def record(path: Path, minutes: int, rate: int, channels: int, seed: int = 0) -> None:
    """Writes a 16-bit file that repeats a minute of music with noise, each time at another loudness; the suffix sets the format."""
    rng = np.random.default_rng(seed)
    minute = render(compose(60, rng), 60 * rate, rate)
    sides = np.stack([minute * rng.uniform(0.8, 1) for _ in range(channels)], axis=1)
    sides += NOISE * rng.standard_normal(sides.shape, np.float32)
    with soundfile.SoundFile(path, "w", rate, channels, "PCM_16") as file:
        for _ in range(minutes):
            file.write(sides * np.float32(rng.uniform(0.3, 1)))


def prepared(folder: Path, files: int, minutes: int) -> Recordings:
    """Returns the shards of `files` mono recordings; the source files are deleted."""
    folder.mkdir()
    paths = [folder / f"{i}.wav" for i in range(files)]
    for i, path in enumerate(paths):
        record(path, minutes, RATE, 1, seed=i)
    entries = prepare_shards(folder, {"train": paths}, folder / "shards", RATE)
    for path in paths:
        path.unlink()
    return Recordings(folder / "shards", list(entries.values()))


def check_clips(dataset: ClipDataset, pieces: list[Piece]) -> None:
    """Raises UnequalError if the classes of a clip differ from those of its samples in the shard, scaled by their extremes."""
    recordings: Any = dataset.source
    for piece in pieces:
        whole = np.fromfile(shard_path(recordings.shards, recordings.entries[piece.recording].source), "<i2")
        samples = whole[piece.start : piece.stop]
        span = samples.min() / FULL_SCALE, samples.max() / FULL_SCALE
        expected = dataset.quantiser.encode(scale(torch.from_numpy(samples.astype(np.float32) / FULL_SCALE), span))
        if not torch.equal(dataset[piece].classes, expected):
            raise UnequalError(f"{piece}: the classes differ from those of its samples: no speed is reported")


def checked_preparing(folder: Path, suffix: str, minutes: int) -> Callable[[], Recordings]:
    """Returns a function that prepares the shard of a stereo file, each time in a new folder.

    Raises:
        UnequalError: If the shard differs by more than one level from its source resampled in one piece.
    """
    folder.mkdir()
    path = folder / f"a.{suffix}"
    record(path, minutes, SOURCE_RATE, channels=2)

    def prepare() -> Recordings:
        shards = Path(tempfile.mkdtemp(dir=folder))
        return Recordings(shards, list(prepare_shards(folder, {"train": [path]}, shards, RATE).values()))

    recordings, (stereo, _) = prepare(), soundfile.read(path, dtype="float32")
    whole = np.rint(soxr.resample(stereo.mean(axis=1), SOURCE_RATE, RATE, quality="HQ") * FULL_SCALE)
    difference = np.abs(recordings.read(0, 0, recordings.lengths[0]) - whole).max()
    if difference > 1:
        raise UnequalError(f"the shard differs from its source resampled in one piece by {difference} levels: no speed is reported")
    return prepare


def memory(minutes: PositiveInt = 60, chunk: PositiveInt = 1 << 20) -> None:
    """Measures the peak resident memory of preparing a recording and of reading it in chunks, each in a new process.

    Memory of the imported libraries is subtracted; mapped pages of the shard are included.

    Args:
        minutes: Length of the recording.
        chunk: Samples per chunk; batches hold one chunk.
    """
    header("numpy")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("wav", "flac"):
            path = Path(folder) / f"{suffix}.{suffix}"
            record(path, minutes, SOURCE_RATE, channels=2)
            _, peak = alone(peak_above, prepare_whole, path, minutes)
            show(f"preparing {minutes} min of stereo {suffix}", [peak / 1e6], "MB")
        recordings = prepared(Path(folder) / "long", 1, minutes)
        _, peak = alone(peak_above, read_whole, recordings, chunk)
        show(f"reading {minutes} min in chunks of {chunk:,}", [peak / 1e6], "MB")


def prepare_whole(path: Path, minutes: int) -> None:
    """Prepares a recording; raises UnequalError if its length is wrong."""
    (entry,) = prepare_shards(path.parent, {"train": [path]}, path.with_suffix(""), RATE).values()
    if entry.length != minutes * 60 * RATE:
        raise UnequalError(f"{path}: {minutes} minutes gave {entry.length} samples: no memory is reported")


def read_whole(recordings: Recordings, chunk: int) -> None:
    """Reads all chunks as shuffled batches, scaled per clip, which reads the most data; raises UnequalError if samples are missing."""
    dataset = ClipDataset(recordings, chunk, Quantiser(), "clip")
    order = Clips(clip_table(recordings.lengths, chunk, keep_tails=True), 1, 0, shuffle=True)
    samples = sum(int(batch.valid.sum()) for batch in EvaluationLoader(dataset, RankBatches(order, 0, 1), num_workers=0))
    if samples != sum(recordings.lengths):
        raise UnequalError(f"{samples} of {sum(recordings.lengths)} samples were read: no memory is reported")


if __name__ == "__main__":
    raise SystemExit(benchmark(speed, memory))
