"""Sets of audio, clip by clip: a split as a model is given it, and folders."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harmonicrnn.audio import extremes, read_mono, scale, span_of
from harmonicrnn.audio.dataset import Dataset, Split
from harmonicrnn.audio.folders import NO_RECORDINGS, find_recordings
from harmonicrnn.audio.quantise import OF_WHOLE_FILES
from harmonicrnn.audio.reading import probe
from harmonicrnn.errors import UserError
from harmonicrnn.metrics import Embedder
from harmonicrnn.metrics.statistics_cache import embedding_key
from harmonicrnn.provenance import sha256


@dataclass(frozen=True)
class ClipSetInfo:
    """What a set is, and what numbers measured on it depend on. clip_samples is None for whole files, clips where they were not counted."""

    name: str
    path: str
    protocol: str
    checksum: str
    sample_rate: int
    clip_samples: int | None
    clips: int | None = None


class SplitClips:
    """The clips of a split as a model is given them: quantised, and decoded at the centres of the cells.

    Args:
        data: set up for the split.
        split: which.
    """

    def __init__(self, data: Dataset, split: Split) -> None:
        self.data, self.split, self.rate = data, split, data.sample_rate
        self.info = ClipSetInfo(
            data.title(split), str(data.root), data.protocol, data.checksum(split), self.rate, data.clip_samples, len(self)
        )

    def __len__(self) -> int:
        return self.data.clip_count(self.split)

    def __iter__(self) -> Iterator[Tensor]:
        return self.share(0, 1)

    def share(self, rank: int, ranks: int) -> Iterator[Tensor]:
        """A rank's clips."""
        return (self.data.audio(self.split, i) for i in range(rank, len(self), ranks))

    def key(self, embedder: Embedder) -> dict[str, Any]:
        """What statistics of its embeddings depend on."""
        of_data = {"split": self.split, "data": self.info.checksum, "protocol": self.info.protocol, "clips": len(self)}
        return embedding_key(embedder) | of_data


class FolderClips:
    """The recordings of a folder, mixed to mono, at one rate, cut into clips.

    Shorter rests are left out, but a recording that is shorter than a clip is one. In a folder that `generate` made these are its clips, as
    they are, without their prompts.

    Args:
        folder: of audio files at any depth.
        rate: in Hz; None for that of the first file.
        clip_samples: of a clip; None for whole recordings.
        like: data that each clip is scaled and quantised as, and decoded again; None for audio as it is.

    Raises:
        UserError: the folder is missing, or holds no audio, or a file that is none; or `generate` was cut short in it.
    """

    def __init__(self, folder: Path, rate: int | None = None, clip_samples: int | None = None, like: Dataset | None = None) -> None:
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder")
        made = _generated(folder)
        self.files, like = (find_recordings(folder), like) if made is None else (made, None)
        if not self.files:
            raise UserError(f"{folder}: {NO_RECORDINGS} in it or below it")
        sources = [probe(path) for path in self.files]
        self.folder, self.like, self.clip_samples = folder, like, clip_samples
        self.rate = sources[0].rate if rate is None else rate
        resampled = [source.rate for source in sources if source.rate != self.rate]
        mixed = sum(source.channels > 1 for source in sources)
        rates = ", ".join(map(str, sorted(set(resampled))))
        self.notes = [f"{len(resampled)} of {len(sources)} files resampled from {rates} to {self.rate} Hz"] if resampled else []
        self.notes += [f"{mixed} of {len(sources)} files mixed to mono"] if mixed else []
        if like is not None:
            self.notes.append(f"scaled and quantised as the data: {like.quantiser.law} {like.bits} bit, scaling {like.scaling}")
        cut = "whole" if clip_samples is None else f"clips of {clip_samples} samples"
        protocol = f"{len(self.files)} files, {cut}, {self.rate} Hz"
        self.info = ClipSetInfo(str(folder), str(folder), protocol, checksum(folder, self.files), self.rate, clip_samples)

    def __iter__(self) -> Iterator[Tensor]:
        for path in self.files:
            samples = torch.from_numpy(read_mono(path, self.rate))
            whole = self.like is None or self.like.scaling in OF_WHOLE_FILES
            if self.like is not None and whole:
                samples = requantised(samples, self.like)
            for clip in _cut(samples, self.clip_samples):
                yield clip if self.like is None or whole else requantised(clip, self.like)

    def share(self, rank: int, ranks: int) -> Iterator[Tensor]:
        """A rank's clips."""
        return islice(self, rank, None, ranks)

    def key(self, embedder: Embedder) -> dict[str, Any]:
        """What statistics of its embeddings depend on."""
        return embedding_key(embedder) | {"folder": self.info.checksum, "protocol": self.info.protocol}


def requantised(samples: Tensor, data: Dataset) -> Tensor:
    """Audio (T,) as data of this kind makes a clip of it, and decodes it again."""
    return data.quantiser.decode_centre(data.quantiser.encode(scale(samples, span_of(data.scaling, *extremes(samples)))))


def checksum(folder: Path, files: list[Path]) -> str:
    """SHA-256 of the files' names and contents."""
    return hashlib.sha256("".join(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n" for path in files).encode()).hexdigest()


def _generated(folder: Path) -> list[Path] | None:
    """The clips of a folder that `generate` made, in order of their numbers; None of any other.

    Raises:
        UserError: not all of them are there.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        files = [folder / row["file"] for row in sorted(manifest["clips"], key=lambda row: row["clip"])]
        whole, wanted = manifest.get("complete", True), manifest.get("settings", {}).get("clips", len(files))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    there = sum(file.is_file() for file in files)
    if not whole or there < wanted:
        raise UserError(
            f"{folder}: is incomplete: {there} of {wanted} clips are there, as its generate was cut short; generate them anew "
            "(--overwrite), or move those that are to be measured to a folder of their own"
        )
    return files


def _cut(samples: Tensor, length: int | None) -> tuple[Tensor, ...]:
    if length is None or len(samples) <= length:
        return (samples,)
    return samples[: len(samples) // length * length].split(length)
