"""Folders of recordings that are made from other sources: their splits, checksums, README, and going on where one was interrupted."""

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from harmonicrnn.audio.dataset import SPLITS, Split
from harmonicrnn.audio.writing import pcm16
from harmonicrnn.errors import UserError
from harmonicrnn.files import remove_parts, replacing
from harmonicrnn.provenance import sha256

RATE = 16_000
SILENCE = 0.001  # of full scale: recordings that stay below it, -60 dB, are left out
README, SUMS = "README.md", "checksums.sha256"


@dataclass(frozen=True)
class Piece:
    """A recording that can be made.

    Args:
        name: Of its file, without a suffix.
        credit: What it is and whose.
        read: Returns its samples in [-1, 1], float32 (samples,), at the corpus's rate.
    """

    name: str
    credit: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Corpus:
    """What a folder is made of.

    Args:
        name: As the command takes it.
        about: Paragraphs of the README: what it is, its licence, whom to name.
        versions: Of all that the samples depend on, by name.
        pieces: In the order that decides on their splits: of numbers from 0, those that are `held_out` modulo `every` are held out.
        every: See there.
        held_out: See there.
        left_out: Names of pieces that have numbers but are not made.
        rate: Of the files, in Hz.
        suffix: Of the files: wav or flac.
    """

    name: str
    about: str
    versions: dict[str, str]
    pieces: Sequence[Piece]
    every: int
    held_out: int
    left_out: Collection[str] = ()
    rate: int = RATE
    suffix: Literal["wav", "flac"] = "wav"


def split_of(i: int, every: int, held_out: int) -> Split:
    """The split of piece i: one of each `every` is held out, for validation and for testing in turn."""
    if i % every != held_out:
        return "train"
    return "validation" if i // every % 2 == 0 else "test"


def places(corpus: Corpus) -> dict[str, Piece]:
    """The pieces by their files, relative to the folder."""
    splits = [split_of(i, corpus.every, corpus.held_out) for i in range(len(corpus.pieces))]
    return {
        f"{split}/{piece.name}.{corpus.suffix}": piece
        for split, piece in zip(splits, corpus.pieces, strict=True)
        if piece.name not in corpus.left_out
    }


def make(corpus: Corpus, out: Path, minutes: float | None = None) -> None:
    """Make the folder, or what is missing of it; a line is printed for each file.

    Args:
        corpus: what to make.
        out: the folder.
        minutes: about as many are made: of each split its share, up to the end of the piece that reaches it; None for all. More minutes
            add to the files of fewer.

    Raises:
        UserError: the folder holds something else, or is of other versions, or a piece cannot be made.
    """
    sums = begin(corpus, out)
    shares = {"train": 1 - 1 / corpus.every, "validation": 0.5 / corpus.every, "test": 0.5 / corpus.every}
    pieces = places(corpus)
    # Shuffled, as neighbours are alike; by their names, so that it is the same each time.
    order = sorted(pieces, key=lambda place: hashlib.sha256(pieces[place].name.encode()).digest())
    for split in ("validation", "test", "train"):  # the short ones first: the folder can be used before all is there
        wanted = math.inf if minutes is None else shares[split] * minutes * 60
        for place in order:
            if place.startswith(f"{split}/") and wanted > 0:
                wanted -= provide(corpus, pieces[place], place, out, sums)
    write_readme(corpus, out, sums)


def begin(corpus: Corpus, out: Path) -> dict[str, str]:
    """The checksums of what is there; a folder that is new gets its README.

    Raises:
        UserError: it holds what would not be made today.
    """
    out.mkdir(parents=True, exist_ok=True)
    remove_parts(out)
    text = (out / README).read_text() if (out / README).is_file() else ""
    sums = read_sums(out)
    if any(out.iterdir()):
        if not text.startswith(heading(corpus)):
            raise UserError(f"{out}: holds something else than {corpus.name}; name another folder with --out")
        if versions_text(corpus) not in text:
            raise UserError(f"{out}: was made with other versions than are installed, see its {README}; name another folder with --out")
        if others := sums.keys() - places(corpus).keys():
            raise UserError(f"{out}: {min(others)} would not be made today; name another folder with --out")
    write_readme(corpus, out, sums)
    return sums


def provide(corpus: Corpus, piece: Piece, place: str, out: Path, sums: dict[str, str]) -> float:
    """The seconds of a piece's file, which is made unless it is there and whole; 0 of a silent piece, which is left out."""
    path = out / place
    if path.is_file() and sha256(path) == sums.get(place):
        return soundfile.info(path).duration
    samples = piece.read()
    if np.abs(samples).max(initial=0) < SILENCE:
        return 0.0
    with replacing(path) as file:
        soundfile.write(file, pcm16(samples), corpus.rate, format=corpus.suffix.upper(), subtype="PCM_16")
    sums[place] = sha256(path)
    with replacing(out / SUMS) as file:
        file.write("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())
    print(f"{place}: {len(samples) / corpus.rate:.1f} s", flush=True)
    return len(samples) / corpus.rate


def read_sums(out: Path) -> dict[str, str]:
    """SHA-256 by file, from the list that `sha256sum -c` reads; none where there is no list yet."""
    lines = (out / SUMS).read_text().splitlines() if (out / SUMS).is_file() else []
    return {name: value for value, name in (line.split("  ", 1) for line in lines)}


def write_readme(corpus: Corpus, out: Path, sums: Collection[str]) -> None:
    """The README of the files that are there."""
    seconds = {place: soundfile.info(out / place).duration for place in sums if (out / place).is_file()}
    with replacing(out / README) as file:
        file.write(readme(corpus, seconds).encode())


def heading(corpus: Corpus) -> str:
    """Of the README, by which a folder is known again."""
    return f"# Recordings: {corpus.name}\n"


def versions_text(corpus: Corpus) -> str:
    """A line for each."""
    return "".join(f"- {name} {number}\n" for name, number in sorted(corpus.versions.items()))


def readme(corpus: Corpus, seconds: dict[str, float]) -> str:
    """The text for files of these lengths."""
    pieces = places(corpus)
    lengths = {split: [length for place, length in seconds.items() if place.startswith(f"{split}/")] for split in SPLITS}
    rows = "".join(f"| {split} | {len(each)} | {sum(each) / 60:.1f} |\n" for split, each in lengths.items())
    files = "".join(f"- `{place}`: {pieces[place].credit}\n" for place in sorted(seconds))
    return f"""{heading(corpus)}
{corpus.suffix.upper()}, mono, {corpus.rate / 1000:g} kHz, 16 bits. Made by `python -m benchmarks.recordings {corpus.name} --out FOLDER`;
`sha256sum -c {SUMS}` checks the files.

| split | files | minutes |
|---|---|---|
{rows}
Of the pieces in sorted order, number i from 0, those with i % {corpus.every} == {corpus.held_out} are held out, for validation
and for testing in turn. Recordings that stay below -60 dB are left out.

{corpus.about.strip()}

## Versions

{versions_text(corpus)}
## Files

{files}"""
