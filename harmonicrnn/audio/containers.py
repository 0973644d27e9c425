"""Where the samples of a file truly end, which its headers do not always say: WAV written to a pipe or over 4 GiB, Ogg files in a row, MP3
without a count of its frames.

Sources: RIFF (Microsoft, 1991), RF64 (EBU Tech 3306), Ogg (RFC 3533), the Xing header of MP3.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

UNKNOWN = {0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF}
UNKNOWN_SIZES = {0, *UNKNOWN, *(size - 36 for size in UNKNOWN), *(size + 36 for size in UNKNOWN if size < 0xFFFFFFFF)}
"""What programs write as the size of a chunk before they know it, some of them less or more the 36 bytes of headers in it."""
WRAPS = 1 << 32
MOST_CHUNKS = 100_000
ID3_BYTES = 128
LARGEST_PADDING = 1 << 12
LARGEST_TAG = 1 << 20  # that other programs put behind the end
KBITS = {True: 320, False: 160}
"""The highest bit rate of layer III, of MPEG-1 or of its half and quarter rates."""


class Window(io.RawIOBase):
    """A file in memory that begins with `head` and goes on with bytes start .. stop of another."""

    def __init__(self, file: BinaryIO, start: int, stop: int, head: bytes = b"") -> None:
        super().__init__()
        self.file, self.start, self.head, self.length = file, start - len(head), head, len(head) + stop - start
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.length}[whence])
        return self.position

    def readinto(self, buffer: Any) -> int:
        if self.position < len(self.head):
            piece = self.head[self.position : self.position + len(buffer)]
        else:
            self.file.seek(self.start + self.position)
            piece = self.file.read(max(0, min(len(buffer), self.length - self.position)))
        buffer[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)


@dataclass(frozen=True)
class Content:
    """What a file holds.

    windows: files to read one after the other instead of it; none where it can be read as it is.
    note: what to tell of it; nothing where all is well.
    fault: why it is not whole; nothing where it is.
    """

    windows: Sequence[Window] = ()
    note: str = ""
    fault: str = ""


def content_of(file: BinaryIO, size: int) -> Content:
    """What a file of so many bytes holds; as it is where it is of no kind that is known here."""
    first = file.read(12)
    file.seek(0)
    if first[:4] in (b"RIFF", b"RIFX", b"RF64") and first[8:] == b"WAVE":
        return _wav(file, size)
    if first[:4] == b"OggS":
        return _ogg(file, size)
    if first[:4] == b"fLaC":
        return _flac(file, size)
    if first[:3] == b"ID3" or (first[:1] == b"\xff" and len(first) > 1 and first[1] >= 0xE0):
        return _mp3(file, size)
    return Content()


def _wav(file: BinaryIO, size: int) -> Content:
    order = ">" if file.read(4) == b"RIFX" else "<"
    at, data, large, ahead = 12, None, None, b""
    for _ in range(MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return Content()  # without samples, as the reader says
        name, length = struct.unpack(f"{order}4sI", head)
        if name == b"data":
            data = length
            break
        if name == b"ds64":
            large = int.from_bytes(file.read(16)[8:], "little")
        elif name in (b"fmt ", b"fact") and length < 1 << 16:
            ahead += head + file.read(length + length % 2)
        at += 8 + length + length % 2
    if data is None:
        return Content()
    start, unknown = at + 8, data in UNKNOWN_SIZES
    there = size - start
    if large is not None and data == 0xFFFFFFFF:
        data, unknown = large, not large or large == (1 << 64) - 1
    if unknown:
        # A size of 0 is meant where other chunks follow.
        end = size if data or not _chunks_follow(file, start, size, order) else start
    elif data > there:
        return Content(fault=f"is cut short: its header promises {data} bytes of samples, {there} are there")
    else:
        end = start + data + (there - data) // WRAPS * WRAPS if large is None else start + data
    note = ""
    if not unknown and not any(_chunks_follow(file, end + pad, size, order) for pad in {0, end % 2}):
        note = (
            f"{size - end} bytes follow the samples that its header counts and are not read; if they are samples too, repair it: "
            "ffmpeg -ignore_length 1 -i FILE REPAIRED.wav"
        )
    if end - start == data:
        return Content(note=note)
    return Content([Window(file, start, end, _wav_header(ahead, end - start, order))], note)


def _wav_header(ahead: bytes, size: int, order: str) -> bytes:
    """Of a WAV, or RF64 where it must be, with its format's chunks and so many bytes of samples."""
    body = 4 + len(ahead) + 8 + size
    if order == ">" or body < WRAPS - 1:
        return (b"RIFX" if order == ">" else b"RIFF") + struct.pack(f"{order}I4s{len(ahead)}s4sI", body, b"WAVE", ahead, b"data", size)
    large = struct.pack("<4sIQQQI", b"ds64", 28, body + 36, size, 0, 0)
    return struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE") + large + ahead + struct.pack("<4sI", b"data", 0xFFFFFFFF)


def _chunks_follow(file: BinaryIO, at: int, size: int, order: str) -> bool:
    """Whether what follows the samples is chunks to the end, or padding."""
    for _ in range(MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return True
        if not any(head):  # silence, unless it is short and all that follows
            return size - at <= LARGEST_PADDING and not any(file.read())
        name, length = struct.unpack(f"{order}4sI", head)
        if not all(32 <= letter < 127 for letter in name) or at + 8 + length > size:
            return False
        at += 8 + length + length % 2
    return False


def _ogg(file: BinaryIO, size: int) -> Content:
    """One window for each link of a chain: one begins where pages that open streams follow others."""
    starts, at, opening, last = [0], 0, True, 0
    while at < size:
        file.seek(at)
        head = file.read(27)
        if len(head) < 27 or head[:4] != b"OggS":
            file.seek(at)
            if last & 4 and len(tag := file.read(LARGEST_TAG + 1)) <= LARGEST_TAG and b"OggS" not in tag:
                break
            return Content(fault=f"is cut short or damaged: no page of its stream begins at byte {at}")
        last = head[5]
        if last & 2 and not opening:
            starts.append(at)
        opening = bool(last & 2)
        at += 27 + head[26] + sum(file.read(head[26]))
    if at > size or not last & 4:
        return Content(fault="is cut short: the last page of its stream is missing")
    if len(starts) == 1:
        return Content()
    return Content([Window(file, start, stop) for start, stop in zip(starts, [*starts[1:], at], strict=True)])


def _flac(file: BinaryIO, size: int) -> Content:
    """Without the tag of an MP3 (ID3v1) behind it, at which libsndfile fails."""
    file.seek(max(0, size - ID3_BYTES))
    return Content([Window(file, 0, size - ID3_BYTES)]) if file.read(3) == b"TAG" else Content()


def _mp3(file: BinaryIO, size: int) -> Content:
    """Without a count of frames, or with one of a part of the file, libsndfile stops where it guesses the end."""
    head = file.read(10)
    at = 10 + sum((byte & 127) << 7 * place for place, byte in enumerate(head[:5:-1])) if head[:3] == b"ID3" else 0
    file.seek(at)
    frame = file.read(4096)
    known = len(frame) > 4 and frame[0] == 0xFF and frame[1] & 0xE6 == 0xE2 and frame[1] & 0x18 != 0x08  # layer III
    if not known or not 0 < frame[2] >> 4 < 15 or frame[2] >> 2 & 3 == 3:
        return Content()
    full, mono = frame[1] & 0x18 == 0x18, frame[3] >> 6 == 3
    rate = (44_100, 48_000, 32_000)[frame[2] >> 2 & 3] // {0x18: 1, 0x10: 2, 0x00: 4}[frame[1] & 0x18]
    tag = 4 + ((17 if mono else 32) if full else (9 if mono else 17))
    name, flags, _, counted = struct.unpack(">4sIII", frame[tag : tag + 16].ljust(16, b"\0"))
    if name in (b"Xing", b"Info") and flags & 3 == 3 and size - at <= counted + max(counted // 100, 1 << 10):
        return Content()
    # A frame of the highest bit rate and of the same kind, so that there is room, which counts more than any file has.
    length = (144 if full else 72) * KBITS[full] * 1000 // rate
    first = (frame[:2] + bytes([14 << 4 | frame[2] & 0x0C]) + frame[3:4]).ljust(tag, b"\0") + struct.pack(
        ">4sII", b"Xing", 1, (1 << 31) - 1
    )
    return Content([Window(file, at, size, first.ljust(length, b"\0"))])
