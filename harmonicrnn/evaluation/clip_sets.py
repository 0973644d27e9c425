"""Iterable sets of clips: a quantised split of a dataset (`SplitClips`) and a folder of audio (`FolderClips`)."""

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
    """Description and protocol of a set. clip_samples is None for whole files, clips if they were not counted."""

    name: str
    path: str
    protocol: str
    checksum: str
    sample_rate: int
    clip_samples: int | None
    clips: int | None = None


class SplitClips:
    """The clips of a split, quantised and decoded at the cell centres, as a model gets them.

    Args:
        data: set up for the split.
        split: the split.
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
        """Yields a rank's clips."""
        return (self.data.audio(self.split, i) for i in range(rank, len(self), ranks))

    def key(self, embedder: Embedder) -> dict[str, Any]:
        """Returns the cache key of the statistics of its embeddings."""
        of_data = {"split": self.split, "data": self.info.checksum, "protocol": self.info.protocol, "clips": len(self)}
        return embedding_key(embedder) | of_data


class FolderClips:
    """The recordings of a folder, mixed to mono, at one rate, cut into clips.

    Remainders shorter than a clip are dropped, but a recording shorter than a clip is one. In a folder made by `generate` these are its
    clips, uncut, without their prompts.

    Args:
        folder: of audio files at any depth.
        rate: in Hz; None for that of the first file.
        clip_samples: length of a clip; None for whole recordings.
        like: scale, quantise and decode each clip as this dataset does; None for the audio as it is.

    Raises:
        UserError: the folder is missing, has no audio or an unreadable file, or its `generate` was cut short.
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
        """Yields a rank's clips."""
        return islice(self, rank, None, ranks)

    def key(self, embedder: Embedder) -> dict[str, Any]:
        """Returns the cache key of the statistics of its embeddings."""
        return embedding_key(embedder) | {"folder": self.info.checksum, "protocol": self.info.protocol}


def requantised(samples: Tensor, data: Dataset) -> Tensor:
    """Scales, quantises and decodes audio (T,) as the dataset does."""
    return data.quantiser.decode_centre(data.quantiser.encode(scale(samples, span_of(data.scaling, *extremes(samples)))))


def checksum(folder: Path, files: list[Path]) -> str:
    """Returns the SHA-256 of the files' names and contents."""
    return hashlib.sha256("".join(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n" for path in files).encode()).hexdigest()


def _generated(folder: Path) -> list[Path] | None:
    """Returns the clips of a folder made by `generate`, in order of their numbers; None for other folders.

    Raises:
        UserError: some of them are missing.
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
