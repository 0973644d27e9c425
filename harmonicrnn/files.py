"""Files that are whole or not there."""

import json
import os
import secrets
import shlex
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from harmonicrnn.errors import UserError

PART = ".part"  # ends the name of a file that is being written


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the name `path` when all went well and it is on disk, and is removed otherwise.

    Until then `path` is what it was. Only a crash leaves the file behind, under a name for `remove_parts`.
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
    """A folder to put files into, which takes the name `path` when all went well and they are on disk, and is removed otherwise.

    Raises:
        OSError: there is something of that name, other than an empty folder, or it cannot be written.
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
    """Waits until a file, or the names in a folder, would outlive a power cut."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all.

    Raises:
        ValueError: a number is not finite, which JSON does not know.
        OSError: it cannot be written.
    """
    text = json.dumps(content, indent=2, allow_nan=False)
    with replacing(path) as file:
        file.write(f"{text}\n".encode())


@contextmanager
def side_product(what: str | Path) -> Iterator[None]:
    """For what is not the work itself: where it cannot be made, whatever the reason, that is warned of."""
    try:
        yield
    except Exception as error:
        why = str(error) or type(error).__name__
        warnings.warn(f"{what}: left out: {error.strerror or why if isinstance(error, OSError) else why}", stacklevel=3)


def remove_parts(folder: Path) -> None:
    """Remove, at any depth, what a crash left half-written; for when no other process writes there."""
    for part in list(folder.rglob(f".*{PART}")):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def pasteable(path: Path) -> str:
    """A path as it can be pasted into a shell."""
    return shlex.quote(str(path))


def check_writable(folder: Path) -> None:
    """Raises UserError where no file can be made in the folder; makes nothing itself."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"{folder}: runs cannot be written there: {error.strerror or os.strerror(error.errno or 0)}") from error
