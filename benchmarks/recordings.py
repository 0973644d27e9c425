"""Made-up recordings as large as real ones, for the measurements of the data side."""

from pathlib import Path

import numpy as np
import soundfile

from datamodules.preparation import prepare_shards
from datamodules.shard_recordings import Recordings
from harmonicrnn.audio import compose, render

NOISE = 0.002  # -54 dB, as in a room: without it FLAC would have an easier time than with real recordings


def record(path: Path, minutes: int, rate: int, channels: int, seed: int = 0) -> None:
    """A minute of music over noise, again and again at another loudness; 16 bits, in the format of the name's suffix."""
    rng = np.random.default_rng(seed)
    minute = render(compose(60, rng), 60 * rate, rate)
    sides = np.stack([minute * rng.uniform(0.8, 1) for _ in range(channels)], axis=1)
    sides += NOISE * rng.standard_normal(sides.shape, np.float32)
    with soundfile.SoundFile(path, "w", rate, channels, "PCM_16") as file:
        for _ in range(minutes):
            file.write(sides * np.float32(rng.uniform(0.3, 1)))


def prepared(folder: Path, files: int, minutes: int, rate: int = 16_000) -> Recordings:
    """`files` mono recordings as shards; their sources are removed again."""
    folder.mkdir()
    paths = [folder / f"{i}.wav" for i in range(files)]
    for i, path in enumerate(paths):
        record(path, minutes, rate, 1, seed=i)
    entries = prepare_shards(folder, {"train": paths}, folder / "shards", rate)
    for path in paths:
        path.unlink()
    return Recordings(folder / "shards", list(entries.values()))
