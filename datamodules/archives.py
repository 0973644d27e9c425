"""Unpacking of downloaded zip and tar.gz archives.

Python's own functions keep members below the target, limit each to its declared size, and create no devices.
"""

import gzip
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from rich import progress

from harmonicrnn.errors import UserError

MAX_MEMBERS = 1_000_000  # empty files use disk space too
PIECE = 1 << 20
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError)  # the last if encrypted


def unpack(archive: Path, target: Path, limit: int) -> None:
    """Unpack an archive into a new folder, which is removed on failure.

    Args:
        archive: a `.zip` file; or a `.tar.gz` file, whose checksum must be known.
        target: folder to create; must not exist.
        limit: largest total size of the members of a zip file in bytes.

    Raises:
        UserError: the archive is damaged, incomplete or encrypted, or exceeds the limit.
        OSError: the files cannot be written.
    """
    target.mkdir()
    try:
        with progress.open(archive, "rb", description="Unpacking", transient=True) as file:
            (_unpack_zip if archive.suffix == ".zip" else _unpack_tar)(file, target, limit)
    except BaseException as error:
        shutil.rmtree(target)
        if isinstance(error, DAMAGE):
            raise UserError(f"{archive}: is cut short or damaged: {error}") from error
        raise


def _unpack_zip(file: IO[bytes], target: Path, limit: int) -> None:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > limit or len(members) > MAX_MEMBERS:
            raise zipfile.BadZipFile(f"it exceeds the limit of {limit / 1e9:.3g} GB or {MAX_MEMBERS:,} files")
        archive.extractall(target)


def _unpack_tar(file: IO[bytes], target: Path, limit: int) -> None:
    with gzip.open(file) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # missing before Python 3.11.4
        archive.extractall(target)
        while stream.read(PIECE):  # to the end, where gzip checks its checksum
            pass
