"""Fetching a dataset's archive: checked for space and checksum, unpacked beside its folder, and put in place when it is whole.

Work is done in `ROOT.download` beside the dataset's folder. What is interrupted there goes on where it stopped with the next attempt: the
archive from its last byte, unpacking from its beginning.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from lightning.pytorch.utilities import rank_zero_info
from rich import progress

from datamodules.archives import unpack
from harmonicrnn.errors import UserError


class Archive(Protocol):
    """Where a dataset's archive comes from.

    Args:
        name: Of its file.
        unpacked: The most bytes its content may have.
    """

    @property
    def name(self) -> str: ...

    @property
    def unpacked(self) -> int: ...

    def describe(self) -> tuple[int, str]:
        """Its size in bytes and its SHA-256.

        Raises:
            UserError: it cannot be had.
        """

    def arrived(self, work: Path) -> Path:
        """Where the file is, or begins to be, in the folder `work`."""

    def get(self, work: Path, size: int) -> None:
        """Complete that file.

        Raises:
            UserError: it cannot be had.
            OSError: it cannot be written.
        """


def fetch_dataset(root: Path, archive: Archive, holds_data: Callable[[Path], bool]) -> None:
    """Fetch a dataset, unless it is there.

    Args:
        root: its folder; missing or empty, or with the dataset in it.
        archive: what it is made from.
        holds_data: whether a folder holds the dataset.

    Raises:
        UserError: it could not be fetched; what arrived is kept for the next attempt.
    """
    root = root.resolve()
    work = root.with_name(f"{root.name}.download")
    if holds_data(root) and not (work / "lock").exists():
        return
    try:
        with _sole_worker(work):
            if not holds_data(root):
                _fetch(root, work, archive, holds_data)
            for name in ("unpacked", "hub"):
                shutil.rmtree(work / name, ignore_errors=True)
            (work / archive.name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{work}: {archive.name} cannot be unpacked or written there: {error.strerror or error}") from error


def _fetch(root: Path, work: Path, archive: Archive, holds_data: Callable[[Path], bool]) -> None:
    if root.exists() and any(root.iterdir()):
        raise UserError(f"{root}: holds other things than the dataset; empty it, or name another folder with --data.root")
    path, unpacked = work / archive.name, work / "unpacked"
    if unpacked.exists():
        shutil.rmtree(unpacked)
    if path.exists():  # it has this name only when its checksum was compared
        _check_space(work, 0, archive.unpacked)
    else:
        size, checksum = archive.describe()
        arrived = archive.arrived(work)
        there = arrived.stat().st_size if arrived.exists() else 0
        _check_space(work, max(0, size - there), archive.unpacked)
        archive.get(work, size)
        _check_sum(arrived, checksum)
        arrived.replace(path)
    try:
        unpack(path, unpacked, archive.unpacked)
    except UserError as error:
        raise UserError(f"{error}; remove that file to fetch it anew") from error
    home = next((folder for folder in (unpacked, *sorted(unpacked.iterdir())) if folder.is_dir() and holds_data(folder)), None)
    if home is None:
        raise UserError(f"{path}: does not hold the dataset as it is known; unpack it by hand, and name its folder with --data.root")
    os.sync()  # a power cut must not leave the folder in its place without its files' content
    home.replace(root)


def _check_space(folder: Path, archive: int, unpacked: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < archive + unpacked:
        raise UserError(
            f"{folder}: the disk has too little space: {(archive + unpacked) / 1e9:.2f} GB are needed ({archive / 1e9:.2f} GB to download, "
            f"{unpacked / 1e9:.2f} GB unpacked), {free / 1e9:.2f} GB are free; name a folder on another one with --data.root"
        )


def _check_sum(path: Path, checksum: str) -> None:
    with progress.open(path, "rb", description="Checking", transient=True) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != checksum:
        path.unlink()
        raise UserError(f"{path}: its SHA-256 is {found}, published is {checksum}; the file was removed: fetch it again")


@contextmanager
def _sole_worker(work: Path) -> Iterator[None]:
    """Waits until no other process fetches to this folder, and removes it in the end where nothing is left in it."""
    work.mkdir(parents=True, exist_ok=True)
    lock = work / "lock"
    try:
        with lock.open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                rank_zero_info(f"Waiting for another process that fetches to {work}")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
    finally:
        if list(work.glob("*")) == [lock]:
            lock.unlink()
            work.rmdir()
