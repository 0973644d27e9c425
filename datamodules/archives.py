"""Unpacking zip and tar.gz archives of recordings without trusting them.

Members become plain files and folders below the target, under their own relative names; links, devices, owners and modes are never taken
from an archive. What is declared is held against a limit before it is written, and no member is written beyond what it declares.
"""

import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from rich import progress

from harmonicrnn.errors import UserError

MAX_MEMBERS = 1_000_000  # empty files fill a disk too
PIECE = 1 << 20
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError)


Member = tuple[str, int, str, Callable[[], IO[bytes]]]
"""A part of an archive: its name as spelt there, its size in bytes as declared, "file", "folder" or what else it is, its content."""


def unpack(archive: Path, target: Path, limit: int) -> None:
    """Unpack into a new folder, which is removed again where that fails.

    Args:
        archive: a `.zip` or `.tar.gz` file.
        target: the folder; it must not exist.
        limit: bytes that the members may have together.

    Raises:
        UserError: the archive is damaged or cut short, or holds what it should not: names that lead out of the folder, links, devices, a
            name twice, more than the limit.
        OSError: the files cannot be written.
    """
    members = _zip_members if archive.suffix == ".zip" else _tar_members
    target.mkdir()
    try:
        with progress.open(archive, "rb", description="Unpacking", transient=True) as file:
            _write(archive, members(file), target, limit)
    except BaseException as error:
        shutil.rmtree(target)
        if isinstance(error, DAMAGE):
            raise UserError(f"{archive}: is cut short or damaged: {error}") from error
        raise


def _write(archive: Path, members: Iterator[Member], target: Path, limit: int) -> None:
    total = 0
    for count, (spelt, size, kind, content) in enumerate(members, 1):
        where = f"{archive}: holds {spelt!r}"
        name = PurePosixPath(spelt)
        if name.is_absolute() or ".." in name.parts or "\0" in spelt:
            raise UserError(f"{where}, which would lie outside the folder it is unpacked to")
        if kind not in ("file", "folder"):
            raise UserError(f"{where}, {kind}; only files and folders are unpacked")
        total += size
        if size < 0 or total > limit or count > MAX_MEMBERS:
            raise UserError(f"{archive}: holds more than the {limit / 1e9:.3g} GB or the {MAX_MEMBERS:,} files that can be right")
        path = target / name
        try:
            if kind == "folder":
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with content() as source, path.open("xb") as out:
                shutil.copyfileobj(source, out, PIECE)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise UserError(f"{where} twice") from error


def _zip_members(file: IO[bytes]) -> Iterator[Member]:
    """Contents end with an error where they do not have the declared size or checksum."""
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            form = stat.S_IFMT(info.external_attr >> 16)
            kind = "folder" if info.is_dir() else "file"
            if form not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "a link" if form == stat.S_IFLNK else "a device"
            elif info.flag_bits & 1:
                kind = "an encrypted file"
            yield info.filename, info.file_size, kind, partial(archive.open, info)


def _tar_members(file: IO[bytes]) -> Iterator[Member]:
    with gzip.open(file) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for info in archive:
            kind = "folder" if info.isdir() else "file" if info.isfile() else "a link" if info.issym() or info.islnk() else "a device"
            yield info.name, info.size, kind, partial(archive.extractfile, info)
        # To tarfile a broken or missing header is as good an end as the blocks of zeros that mark it.
        stream.seek(archive.offset)
        if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("the mark of its end is missing")
        while stream.read(PIECE):  # to the end, where gzip compares its checksum
            pass
