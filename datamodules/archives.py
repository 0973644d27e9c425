"""Safe unpacking of untrusted zip and tar.gz archives.

Members become plain files and folders below the target; links, devices, owners and modes are never extracted. Declared sizes are checked
against a limit before writing, and no member is written beyond its declared size.
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

MAX_MEMBERS = 1_000_000  # empty files use disk space too
PIECE = 1 << 20
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError)


Member = tuple[str, int, str, Callable[[], IO[bytes]]]
"""Member of an archive: stored name, declared size in bytes, kind ("file", "folder" or a description), function that opens the content."""


def unpack(archive: Path, target: Path, limit: int) -> None:
    """Unpack an archive into a new folder, which is removed on failure.

    Args:
        archive: a `.zip` or `.tar.gz` file.
        target: folder to create; must not exist.
        limit: largest total size of the members in bytes.

    Raises:
        UserError: the archive is damaged or incomplete, exceeds the limit, or contains links, devices, encrypted files, duplicate names or
            names outside the folder.
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
            raise UserError(f"{archive}: exceeds the limit of {limit / 1e9:.3g} GB or {MAX_MEMBERS:,} files")
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
    """Yield the members of a zip file; reading a member fails if its size or checksum is wrong."""
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
        # tarfile treats a broken or missing header as the end, like the blocks of zeros that mark it.
        stream.seek(archive.offset)
        if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("the end-of-archive mark is missing")
        while stream.read(PIECE):  # read to the end, where gzip checks its checksum
            pass
