"""The recordings in a folder."""

import os
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from natsort import natsorted

from harmonicrnn.audio.reading import SUFFIXES

NO_RECORDINGS = f"no audio files ({', '.join(SUFFIXES[:5])} and others)"


def visible(folder: Path, pattern: str) -> Iterator[Path]:
    """The files of a folder that match, without hidden ones and those in hidden folders: `._x.wav` is what macOS notes of an `x.wav`."""
    for path in folder.glob(pattern):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and _is_there(path):
            yield path


def find_recordings(folder: Path) -> list[Path]:
    """The audio files in a folder, at any depth, in natural order of their names; hidden files and folders are left out.

    Links to folders are followed, after what lies in the folder itself; each folder is gone through once, by whatever names it is there.
    """
    found, seen, tops = [], set(), deque([folder])
    while tops:
        for place, folders, names in os.walk(tops.popleft(), onerror=_warn):
            here = Path(place)
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            tops += [here / name for name in folders if (here / name).is_symlink()]
            found += [here / name for name in names if not name.startswith(".") and _is_recording(here / name)]
    return natsorted(found, key=lambda path: path.as_posix())


def _is_recording(path: Path) -> bool:
    suffix = path.suffix.lower()
    # A link that leads nowhere may have led to a folder of them.
    return (suffix in SUFFIXES and _is_there(path)) or (not suffix and path.is_symlink() and not path.exists())


def _is_there(path: Path) -> bool:
    """A link that leads nowhere is a recording that is missing, not one less."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _warn(error: OSError) -> None:
    warnings.warn(f"{error.filename}: cannot be opened ({error.strerror}); recordings in it are left out", stacklevel=2)
