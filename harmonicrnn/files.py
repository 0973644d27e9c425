"""Atomic writing of files and folders: complete on disk or not there."""

import json
import os
import secrets
import shlex
import shutil
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from harmonicrnn.errors import UserError

PART = ".part"  # suffix of a file while it is written


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yields a file to write to that is renamed to `path` once complete and on disk, and removed on errors.

    Until then `path` is unchanged. Only a crash leaves the temporary file, which `remove_parts` removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(8)}{PART}")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _to_disk(path.parent)  # the new name too must outlive a power cut


@contextmanager
def making_folder(path: Path) -> Iterator[Path]:
    """Yields a folder to fill that is renamed to `path` once complete and on disk, and removed on errors.

    Raises:
        OSError: `path` exists and is not an empty folder, or cannot be written.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(8)}{PART}")
    part.mkdir()
    try:
        yield part
        for file in part.iterdir():
            _to_disk(file)
        _to_disk(part)
        part.replace(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    """Flushes a file, or the names in a folder, to disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file atomically.

    Raises:
        ValueError: a number is not finite.
        OSError: it cannot be written.
    """
    text = json.dumps(content, indent=2, allow_nan=False)
    with replacing(path) as file:
        file.write(f"{text}\n".encode())


@contextmanager
def side_product(what: str | Path) -> Iterator[None]:
    """Context for by-products: turns any error inside into a warning."""
    try:
        yield
    except Exception as error:
        why = str(error) or type(error).__name__
        warnings.warn(f"{what}: left out: {error.strerror or why if isinstance(error, OSError) else why}", stacklevel=3)


def walk(top: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`, but reads each folder once, in order of the names, and links to folders are followed last."""
    seen, tops = set[tuple[int, int]](), deque([top])
    while tops:
        for place, folders, names in os.walk(tops.popleft(), onerror=onerror):
            here = Path(place)
            with suppress(OSError):  # it vanished
                status = here.stat()
                if (number := (status.st_dev, status.st_ino)) not in seen:
                    seen.add(number)
                    folders.sort()
                    yield here, folders, names
                    tops += [here / name for name in folders if (here / name).is_symlink()]
                    continue
            folders.clear()


def remove_parts(folder: Path) -> None:
    """Removes incomplete files left by a crash, at any depth; no other process may be writing there."""
    for part in list(folder.rglob(f".*{PART}")):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def pasteable(path: Path) -> str:
    """Returns a path quoted for a shell."""
    return shlex.quote(str(path))


def check_writable(folder: Path) -> None:
    """Raises UserError if no file can be created in the folder; creates nothing."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or os.strerror(error.errno or 0)}") from error
