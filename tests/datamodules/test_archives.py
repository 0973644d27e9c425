"""Tests of archives that are whole, damaged or malicious."""

import errno
import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile

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
@pytest.mark.parametrize("member", ["../out.wav", "set/../../out.wav", "/etc/out.wav", "//out.wav", ".."])
def test_members_that_lead_outside(tmp_path, make, name, member):
    refused(tmp_path, make(tmp_path / name, CONTENT | {member: b"x"}), "would lie outside the folder")


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
    assert not (tmp_path / "out/zero/a.wav").stat().st_mode & 0o6111


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
    ],
)
def test_links_and_devices_in_a_tar(tmp_path, kind, told):
    refused(tmp_path, make_tar(tmp_path / "a.tar.gz", {"x": b""}, type=kind, linkname="/etc/passwd"), f"'x', {told}; only files")


def test_a_name_that_ends_in_the_middle(tmp_path):
    path = make_tar(tmp_path / "a.tar.gz", {"x": b""}, pax_headers={"path": "a\0b"})
    refused(tmp_path, path, "would lie outside the folder")


def test_a_size_below_zero(tmp_path):
    info = tarfile.TarInfo("x")
    info.size = -512
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(header + bytes(1024)))
    refused(tmp_path, tmp_path / "a.tar.gz", "exceeds the limit|cut short or damaged")  # Python 3.14 notices by itself


@pytest.mark.parametrize(("form", "told"), [(stat.S_IFLNK, "a link"), (stat.S_IFCHR, "a device")])
def test_links_and_devices_in_a_zip(tmp_path, form, told):
    refused(tmp_path, make_zip(tmp_path / "a.zip", {"x": b"/etc/passwd"}, form | 0o777), f"'x', {told}; only files")


def test_an_encrypted_zip(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"x": b"abc"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    refused(tmp_path, path, "an encrypted file")


@MAKERS
def test_more_than_the_limit(tmp_path, make, name):
    """A bomb: the archive takes a thousandth of its content's size on disk."""
    path = make(tmp_path / name, {f"{i}.wav": bytes(LIMIT // 4) for i in range(5)})
    assert path.stat().st_size < LIMIT / 100
    refused(tmp_path, path, r"exceeds the limit of 0\.00105 GB")
    unpack(path, tmp_path / "out", 2 * LIMIT)


@MAKERS
def test_too_many_files(tmp_path, make, name, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    refused(tmp_path, make(tmp_path / name), "or 2 files")


def test_a_zip_that_holds_more_than_it_declares(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", {"x": bytes(10 * LIMIT)})
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, 1000)
    struct.pack_into("<I", content, 22, 1000)
    path.write_bytes(content)
    written = []
    original = archives.shutil.copyfileobj

    def watched(source, out, length):
        try:
            original(source, out, length)
        finally:
            written.append(out.tell())

    monkeypatch.setattr(archives.shutil, "copyfileobj", watched)
    refused(tmp_path, path, "is cut short or damaged: Bad CRC-32")
    assert written[0] <= 1000


@MAKERS
def test_a_name_that_comes_twice(tmp_path, make, name):
    path = make(tmp_path / name, {"a.wav": b"1", "./a.wav": b"2"})
    refused(tmp_path, path, r"'\./a\.wav' twice")


@MAKERS
@pytest.mark.parametrize("names", [("a", "a/b.wav"), ("a/b.wav", "a")])
def test_a_name_that_is_file_and_folder(tmp_path, make, name, names):
    refused(tmp_path, make(tmp_path / name, dict.fromkeys(names, b"x")), f"{names[1]}' twice")


@MAKERS
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 0.9999])
def test_cut_short(tmp_path, make, name, share):
    path = make(tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(tmp_path, path, "is cut short or damaged")


@pytest.mark.parametrize("cut", [512, 700, 1024, 4608, 5000])
def test_a_tar_that_was_cut_before_it_was_compressed(tmp_path, cut):
    """The gzip stream is complete; some cuts are between two members, others in a header."""
    plain = gzip.decompress(make_tar(tmp_path / "a.tar.gz").read_bytes())
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(plain[:cut]))
    refused(tmp_path, tmp_path / "a.tar.gz", "is cut short or damaged")


@MAKERS
def test_a_flipped_byte(tmp_path, make, name):
    path = make(tmp_path / name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused(tmp_path, path, "is cut short or damaged")


def test_a_flipped_byte_in_a_header_of_a_tar(tmp_path):
    plain = bytearray(gzip.decompress(make_tar(tmp_path / "a.tar.gz").read_bytes()))
    plain[3584 + 5] ^= 1  # header of the second member: 512 bytes of the first header, and 3,000 bytes in blocks of 512
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(plain))
    refused(tmp_path, tmp_path / "a.tar.gz", "is cut short or damaged: the end-of-archive mark")


@MAKERS
def test_a_full_disk_leaves_nothing(tmp_path, make, name, monkeypatch):
    def full(source, out, length):
        out.write(source.read(10))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = make(tmp_path / name)
    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(path, tmp_path / "out", LIMIT)
    assert not (tmp_path / "out").exists()
