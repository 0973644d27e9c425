"""The recordings in a folder."""

from collections.abc import Iterator
from pathlib import Path

from natsort import natsorted

from harmonicrnn.audio.reading import SUFFIXES


def visible(folder: Path, pattern: str) -> Iterator[Path]:
    """The files of a folder that match, without hidden ones and those in hidden folders: `._x.wav` is what macOS notes of an `x.wav`."""
    for path in folder.glob(pattern):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        # A link that leads nowhere is a recording that is missing, not one less.
        if not hidden and (path.is_file() or (path.is_symlink() and not path.is_dir())):
            yield path


def find_recordings(folder: Path) -> list[Path]:
    """The audio files in a folder, at any depth, in natural order of their names."""
    return natsorted((p for p in visible(folder, "**/*") if p.suffix.lower() in SUFFIXES), key=lambda p: p.as_posix())
