"""Makes folders of recordings from Debian packages: music, speech, piano rendered from scores, simple piano melodies, and the few
melodies that come with the repository.

    python -m benchmarks.recordings music|speech|piano|melody|demo [--out FOLDER] [--minutes N]

A folder holds 16-bit mono WAV files at 16 kHz (demo: FLAC at 8 kHz) in `train/`, `validation/` and `test/`, a `README.md` with sources,
licence and attribution, and `checksums.sha256`. The same versions of the packages give the same files. Existing files with the right
checksum are kept. No package is installed; an error names the missing ones.
"""

import os
import shutil
import subprocess
from collections.abc import Collection
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import soundfile
import soxr
from jsonargparse.typing import PositiveFloat

from benchmarks import piano_melodies, piano_playing, piano_scores
from benchmarks.corpus import RATE, Corpus, Piece, make
from benchmarks.timing import benchmark
from harmonicrnn.errors import UserError

MUSIC = ("wesnoth-1.16-music", "wesnoth-1.18-music")  # of Debian 12 and 13
SPEECH, DECODER = "asterisk-core-sounds-en-g722", "ffmpeg"
SILENT = "bach-bwv119.9"  # has a rest longer than a clip of the demo
SYNTHESIZER, SOUND_FONT = "fluidsynth", "fluid-soundfont-gm"

ABOUT_MUSIC = """
The music of the game The Battle for Wesnoth (https://www.wesnoth.org), from Debian's package {package}: mostly orchestral, rendered by
its composers with sample libraries. Channels are averaged, and samples resampled.

## Licence

GNU General Public License, version 2 or later: so says /usr/share/doc/{package}/copyright of the whole package, and so do the tags of
most tracks, those at the end of the lines below. Name the composers, who stand there too, and the Wesnoth project. What is made of the
recordings is under the same licence.
"""
ABOUT_SPEECH = """
Prompts of the telephone exchange Asterisk in American English, from Debian's package {package}: G.722 at 64 kbit/s, which holds
frequencies up to 7 kHz, decoded by ffmpeg.

## Licence

Creative Commons Attribution-ShareAlike 3.0 (/usr/share/doc/{package}/copyright). Copyright 2003-2010 Allison Smith
(http://www.theivrvoice.com), who recorded them; financial contributions by Digium, Inc. (http://www.digium.com). What is made of the
recordings is under the same licence.
"""


def music(out: Path = Path("data/music"), minutes: PositiveFloat | None = None) -> None:
    """Game music, about two hours, from the Debian package wesnoth-1.16-music.

    Args:
        out: Folder to make.
        minutes: About as much of it; null for all.
    """
    (package,) = need("music", next(filter(find, MUSIC), MUSIC[0]))
    tracks = sorted(path for path in package.files if path.suffix == ".ogg")
    pieces = [Piece(path.stem, tags(path), partial(resampled, path)) for path in tracks]
    versions = {package.name: package.version, **libraries("soundfile", "soxr")}
    make(Corpus("music", ABOUT_MUSIC.format(package=package.name), versions, pieces, every=10, held_out=4), out, minutes)


def speech(out: Path = Path("data/speech"), minutes: PositiveFloat | None = None) -> None:
    """Telephone prompts by one speaker, about 25 minutes, from the Debian package asterisk-core-sounds-en-g722.

    Args:
        out: Folder to make.
        minutes: About as much of it; null for all.
    """
    package, decoder = need("speech", SPEECH, DECODER)
    prompts = sorted(path for path in package.files if path.suffix == ".g722")
    top = os.path.commonpath(prompts)
    names = ["-".join(path.relative_to(top).with_suffix("").parts) for path in prompts]
    pieces = [Piece(name, "Allison Smith", partial(decoded, path)) for name, path in zip(names, prompts, strict=True)]
    versions = {package.name: package.version, decoder.name: decoder.version, **libraries("soundfile")}
    make(Corpus("speech", ABOUT_SPEECH.format(package=package.name), versions, pieces, every=10, held_out=4), out, minutes)


def piano(out: Path = Path("data/piano"), minutes: PositiveFloat | None = 180) -> None:
    """Old piano music from the scores of the Python package music21, rendered by Debian's fluidsynth; more than seven hours in total.

    Args:
        out: Folder to make.
        minutes: About as much of it; null for all.
    """
    font, versions = piano_sounds("piano")
    pieces = [Piece(score.name, score.credit, partial(piano_playing.render, score, font, RATE)) for score in piano_scores.scores()]
    about = piano_scores.ABOUT + piano_scores.LICENCE
    make(Corpus("piano", about, versions, pieces, every=8, held_out=3, left_out=piano_scores.COPIES), out, minutes)


def melody(out: Path = Path("data/melody"), minutes: PositiveFloat | None = None) -> None:
    """Melodies of Bach's chorales on the piano, one note at a time in one tempo: about two hours, simple enough for a small model.

    Args:
        out: Folder to make.
        minutes: About as much of it; null for all.
    """
    make(melodies("melody"), out, minutes)


def demo(out: Path = Path("demo"), minutes: PositiveFloat | None = 6) -> None:
    """The few melodies in the repository's folder `demo`.

    Args:
        out: Folder to make.
        minutes: About as much of it; null for all.
    """
    make(melodies("demo", rate=8000, suffix="flac", left_out=piano_scores.COPIES | {SILENT}), out, minutes)


def melodies(
    name: str, rate: int = RATE, suffix: Literal["wav", "flac"] = "wav", left_out: Collection[str] = piano_scores.COPIES
) -> Corpus:
    """Returns the corpus of all melodies except those in `left_out`, at a rate in Hz."""
    font, versions = piano_sounds(name)
    about, pieces = piano_melodies.ABOUT + piano_scores.LICENCE, piano_melodies.pieces(font, rate)
    return Corpus(name, about, versions, pieces, every=8, held_out=3, left_out=left_out, rate=rate, suffix=suffix)


def piano_sounds(what: str) -> tuple[Path, dict[str, str]]:
    """Returns the path of the sound font, and the versions of everything that a rendering depends on."""
    synthesizer, sounds = need(what, SYNTHESIZER, SOUND_FONT)
    font = next(path for path in sounds.files if path.suffix == ".sf2")
    return font, {package.name: package.version for package in (synthesizer, sounds)} | libraries("music21", "numpy", "soundfile", "soxr")


class Package(NamedTuple):
    """An installed package: its name, version and files."""

    name: str
    version: str
    files: list[Path]


def need(what: str, *names: str) -> list[Package]:
    """Returns installed Debian packages by their names.

    Raises:
        UserError: If some are not installed, or the system has no dpkg-query.
    """
    if shutil.which("dpkg-query") is None:
        raise UserError(f"{what} is made from Debian's {' and '.join(names)}, and this system has no dpkg-query: use Debian or Ubuntu")
    packages = {name: find(name) for name in names}
    if missing := [name for name, package in packages.items() if package is None]:
        raise UserError(f"{what} needs packages of Debian that are not installed: apt install {' '.join(missing)}")
    return [package for package in packages.values() if package is not None]


def find(name: str) -> Package | None:
    """Returns an installed Debian package; None if it is not installed."""
    if shutil.which("dpkg-query") is None:
        return None
    found = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name], capture_output=True, text=True)
    status, _, number = found.stdout.partition(" ")
    if found.returncode or status != "installed":
        return None
    listed = subprocess.run(["dpkg-query", "-L", name], capture_output=True, text=True, check=True).stdout
    return Package(name, number, [Path(line) for line in listed.splitlines()])


def libraries(*names: str) -> dict[str, str]:
    """Returns the versions of Python packages and of libsndfile."""
    return {name: version(name) for name in names} | {"libsndfile": soundfile.__libsndfile_version__}


def tags(path: Path) -> str:
    """Returns title, artist, copyright and licence of a file, if present."""
    with soundfile.SoundFile(path) as file:
        found = file.copy_metadata()
    return "; ".join(found[key] for key in ("title", "artist", "copyright", "license") if found.get(key)) or "no tags"


def resampled(path: Path) -> np.ndarray:
    """Returns a file's samples at 16 kHz, channels averaged, float32 (samples,)."""
    # The library's reader refuses files shorter than their header says; one of the tracks is, by a tenth of a second.
    with soundfile.SoundFile(path) as file:
        mono = np.concatenate([block.mean(axis=1) for block in file.blocks(1 << 16, dtype="float32", always_2d=True)])
    return soxr.resample(mono, file.samplerate, RATE, quality="HQ")


def decoded(path: Path) -> np.ndarray:
    """Returns a G.722 file's samples at 16 kHz, float32 (samples,).

    Raises:
        UserError: If ffmpeg cannot decode it.
    """
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-f", "g722", "-i", str(path), "-f", "s16le", "-"]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise UserError(f"{path}: ffmpeg cannot decode it: {done.stderr.decode(errors='replace').strip()}")
    return np.frombuffer(done.stdout, "<i2") / np.float32(32768)


if __name__ == "__main__":
    raise SystemExit(benchmark(music, speech, piano, melody, demo))
