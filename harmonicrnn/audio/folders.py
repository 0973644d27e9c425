"""Lists the recordings in a folder."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from natsort import natsorted

from harmonicrnn.audio.reading import SUFFIXES
from harmonicrnn.files import walk

NO_RECORDINGS = f"no audio files ({', '.join(SUFFIXES[:5])} and others)"


def visible(folder: Path, pattern: str) -> Iterator[Path]:
    """Yields matching files, without hidden ones and those in hidden folders, such as macOS's `._x.wav`."""
    for path in folder.glob(pattern):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and _is_there(path):
            yield path


def find_recordings(folder: Path) -> list[Path]:
    """Returns the audio files in a folder, at any depth, in natural order of their names, without hidden files and folders.

    Links to folders are followed last; each folder is read once.
    """
    found = []
    for here, folders, names in walk(folder, _warn):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [here / name for name in names if not name.startswith(".") and _is_recording(here / name)]
    return natsorted(found, key=lambda path: path.as_posix())


def _is_recording(path: Path) -> bool:
    suffix = path.suffix.lower()
    # A broken link without a suffix may stand for a folder of recordings.
    return (suffix in SUFFIXES and _is_there(path)) or (not suffix and path.is_symlink() and not path.exists())


def _is_there(path: Path) -> bool:
    """Counts a broken link as present, so that reading it raises instead of skipping it."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _warn(error: OSError) -> None:
    warnings.warn(f"{error.filename}: cannot be opened ({error.strerror}); recordings in it are left out", stacklevel=2)
