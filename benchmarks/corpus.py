"""Folders of recordings made from other sources: splits, checksums, README, and resuming after an interruption."""

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
SILENCE = 0.001  # of full scale, -60 dB: recordings with a lower peak are skipped
README, SUMS = "README.md", "checksums.sha256"


@dataclass(frozen=True)
class Piece:
    """A recording of a corpus.

    Args:
        name: File name without suffix.
        credit: Title and authors, for the README.
        read: Returns the samples, float32 (samples,) in [-1, 1], at the corpus's rate.
    """

    name: str
    credit: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Corpus:
    """Contents of a folder of recordings.

    Args:
        name: Name on the command line.
        about: Paragraphs of the README: description, licence and attribution.
        versions: Versions of everything that the samples depend on, by name.
        pieces: The recordings; piece i (from 0) is held out if i % every == held_out.
        every: Modulus for holding out pieces.
        held_out: Remainder for holding out pieces.
        left_out: Names of pieces that are numbered but not made.
        rate: Sample rate of the files in Hz.
        suffix: Suffix of the files, "wav" or "flac".
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
    """Returns the split of piece i; held-out pieces go to validation and test alternately."""
    if i % every != held_out:
        return "train"
    return "validation" if i // every % 2 == 0 else "test"


def places(corpus: Corpus) -> dict[str, Piece]:
    """Returns the pieces by file name, relative to the folder."""
    splits = [split_of(i, corpus.every, corpus.held_out) for i in range(len(corpus.pieces))]
    return {
        f"{split}/{piece.name}.{corpus.suffix}": piece
        for split, piece in zip(splits, corpus.pieces, strict=True)
        if piece.name not in corpus.left_out
    }


def make(corpus: Corpus, out: Path, minutes: float | None = None) -> None:
    """Makes the missing files of a folder and prints a line for each.

    Args:
        corpus: Contents of the folder.
        out: Path of the folder.
        minutes: Approximate length, shared among the splits and rounded up to whole pieces; None for all. A longer folder contains all
            files of a shorter one.

    Raises:
        UserError: If the folder holds something else or was made with other versions, or a piece cannot be made.
    """
    sums = begin(corpus, out)
    shares = {"train": 1 - 1 / corpus.every, "validation": 0.5 / corpus.every, "test": 0.5 / corpus.every}
    pieces = places(corpus)
    # Neighbouring pieces are similar, so they are shuffled; the order depends only on their names.
    order = sorted(pieces, key=lambda place: hashlib.sha256(pieces[place].name.encode()).digest())
    for split in ("validation", "test", "train"):  # shortest first, so that the folder is usable before it is complete
        wanted = math.inf if minutes is None else shares[split] * minutes * 60
        for place in order:
            if place.startswith(f"{split}/") and wanted > 0:
                wanted -= provide(corpus, pieces[place], place, out, sums)
    write_readme(corpus, out, sums)


def begin(corpus: Corpus, out: Path) -> dict[str, str]:
    """Creates the folder and its README if needed, and returns the checksums of the existing files.

    Raises:
        UserError: If the folder holds something else, or files that this version would not make.
    """
    out.mkdir(parents=True, exist_ok=True)
    remove_parts(out)
    text = (out / README).read_text() if (out / README).is_file() else ""
    sums = read_sums(out)
    if any(out.iterdir()):
        if not text.startswith(heading(corpus)):
            raise UserError(f"{out}: holds something else than {corpus.name}; name another folder with --out")
        if versions_text(corpus) not in text:
            raise UserError(f"{out}: was made with other versions than those installed, see its {README}; name another folder with --out")
        if others := sums.keys() - places(corpus).keys():
            raise UserError(f"{out}: {min(others)} would not be made today; name another folder with --out")
    write_readme(corpus, out, sums)
    return sums


def provide(corpus: Corpus, piece: Piece, place: str, out: Path, sums: dict[str, str]) -> float:
    """Makes the file of a piece unless it exists with the right checksum; returns its seconds, 0 for a silent piece, which is skipped."""
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
    """Returns the SHA-256 of each file, from the list for `sha256sum -c`; empty if there is no list yet."""
    lines = (out / SUMS).read_text().splitlines() if (out / SUMS).is_file() else []
    return {name: value for value, name in (line.split("  ", 1) for line in lines)}


def write_readme(corpus: Corpus, out: Path, sums: Collection[str]) -> None:
    """Writes the README of the existing files."""
    seconds = {place: soundfile.info(out / place).duration for place in sums if (out / place).is_file()}
    with replacing(out / README) as file:
        file.write(readme(corpus, seconds).encode())


def heading(corpus: Corpus) -> str:
    """Returns the first line of the README, which identifies the corpus."""
    return f"# Recordings: {corpus.name}\n"


def versions_text(corpus: Corpus) -> str:
    """Returns the versions, one per line."""
    return "".join(f"- {name} {number}\n" for name, number in sorted(corpus.versions.items()))


def readme(corpus: Corpus, seconds: dict[str, float]) -> str:
    """Returns the text of the README; `seconds` holds the length of each file."""
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
