"""Archives that are whole, broken, or out to do harm."""

import errno
import io
import os
import stat
import struct
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from datamodules import archives
from datamodules.archives import unpack
from harmonicrnn.errors import UserError

LIMIT = 1 << 20
CONTENT = {"set/one.wav": b"one" * 1000, "set/sub/two.wav": os.urandom(50_000), "set/none.wav": b""}


def make_zip(path, members=CONTENT, mode=stat.S_IFREG | 0o644):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def make_tar(path, members=CONTENT, **fields):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return path


MAKERS = pytest.mark.parametrize(("make", "name"), [(make_zip, "a.zip"), (make_tar, "a.tar.gz")], ids=["zip", "tar"])


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(tmp_path, archive, message, limit=LIMIT):
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message) as caught:
        unpack(archive, tmp_path / "out", limit)
    assert str(caught.value).startswith(f"{archive}: ")
    assert "\n" not in str(caught.value)
    assert set(tmp_path.rglob("*")) == before


@MAKERS
def test_whole_archives(tmp_path, make, name):
    unpack(make(tmp_path / name), tmp_path / "out", LIMIT)
    assert tree(tmp_path / "out") == CONTENT


@MAKERS
@pytest.mark.parametrize("member", ["../out.wav", "set/../../out.wav", "/etc/out.wav", "//out.wav"])
def test_nothing_is_written_outside(tmp_path, make, name, member):
    path = make(tmp_path / name, CONTENT | {member: b"x"})
    with suppress(UserError):
        unpack(path, tmp_path / "out", LIMIT)
    assert {each.name for each in tmp_path.iterdir()} <= {name, "out"}
    assert not Path("/etc/out.wav").exists()
    assert not Path("/out.wav").exists()


def test_a_tar_that_begins_with_its_own_folder_and_one_with_folders_twice(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name in (".", "./zero", "./zero"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        info = tarfile.TarInfo("./zero/a.wav")
        info.size, info.mode = 3, 0o6777
        archive.addfile(info, io.BytesIO(b"abc"))
    unpack(tmp_path / "a.tar.gz", tmp_path / "out", LIMIT)
    assert tree(tmp_path / "out") == {"zero/a.wav": b"abc"}
    assert not (tmp_path / "out/zero/a.wav").stat().st_mode & 0o6022


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_outside_and_devices_in_a_tar(tmp_path, kind):
    path = make_tar(tmp_path / "a.tar.gz", {"x": b""}, type=kind, linkname="/etc/passwd")
    refused(tmp_path, path, "is cut short or damaged: 'x' is a")


def test_a_link_in_a_zip_is_no_link(tmp_path):
    unpack(make_zip(tmp_path / "a.zip", {"x": b"/etc/passwd"}, stat.S_IFLNK | 0o777), tmp_path / "out", LIMIT)
    assert not (tmp_path / "out/x").is_symlink()


def test_an_encrypted_zip(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"x": b"abc"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    refused(tmp_path, path, "is encrypted")


def test_more_than_the_limit(tmp_path):
    """A bomb: a thousandth of its content's size on disk."""
    path = make_zip(tmp_path / "a.zip", {f"{i}.wav": bytes(LIMIT // 4) for i in range(5)})
    assert path.stat().st_size < LIMIT / 100
    refused(tmp_path, path, r"exceeds the limit of 0\.00105 GB")
    unpack(path, tmp_path / "out", 2 * LIMIT)


def test_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    refused(tmp_path, make_zip(tmp_path / "a.zip"), "or 2 files")


def test_a_zip_that_holds_more_than_it_declares(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", {"x": bytes(10 * LIMIT)})
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, 1000)
    struct.pack_into("<I", content, 22, 1000)
    path.write_bytes(content)
    written = []
    original = archives.shutil.copyfileobj

    def watched(source, out):
        try:
            original(source, out)
        finally:
            written.append(out.tell())

    monkeypatch.setattr(archives.shutil, "copyfileobj", watched)
    refused(tmp_path, path, "is cut short or damaged: Bad CRC-32")
    assert written[0] <= 1000


@MAKERS
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 0.9999])
def test_cut_short(tmp_path, make, name, share):
    path = make(tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(tmp_path, path, "is cut short or damaged")


@MAKERS
def test_a_flipped_byte(tmp_path, make, name):
    path = make(tmp_path / name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused(tmp_path, path, "is cut short or damaged")


@MAKERS
def test_a_full_disk_leaves_nothing(tmp_path, make, name, monkeypatch):
    def full(source, out, *rest):
        out.write(source.read(10))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = make(tmp_path / name)
    for module in (archives.shutil, tarfile):
        monkeypatch.setattr(module, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(path, tmp_path / "out", LIMIT)
    assert not (tmp_path / "out").exists()
