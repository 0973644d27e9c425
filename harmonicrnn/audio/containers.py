"""Finds the end of the samples in audio files with wrong or missing lengths in their headers.

Covers WAV written to a pipe or over 4 GiB, AU, CAF and W64 with bytes behind them, chained Ogg files, and MP3 without a frame count.
Sources: RIFF (Microsoft, 1991), RF64 (EBU Tech 3306), CAF (Apple), W64 (Sony), Ogg (RFC 3533), the Xing header of MP3.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

UNKNOWN = {0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF}
UNKNOWN_SIZES = {0, *UNKNOWN, *(size - 36 for size in UNKNOWN), *(size + 36 for size in UNKNOWN if size < 0xFFFFFFFF)}
"""Placeholders that programs write for a chunk size not yet known, some off by the 36 bytes of headers."""
WRAPS = 1 << 32
MOST_CHUNKS = 100_000
ID3_BYTES = 128
LARGEST_PADDING = 1 << 12
LARGEST_TAG = 1 << 20  # bytes, that other programs append to an Ogg file
W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
KBITS = {True: 320, False: 160}
"""Highest bit rate of layer III, kbit/s: MPEG-1 (True), MPEG-2 and 2.5 (False)."""


class Window(io.RawIOBase):
    """A read-only file: `head`, then bytes start .. stop of another file."""

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
    """How to read a file.

    windows: files to read one after the other instead of it; empty if it can be read as it is.
    note: a warning for the user; empty if there is none.
    fault: why the file is incomplete; empty if it is complete.
    """

    windows: Sequence[Window] = ()
    note: str = ""
    fault: str = ""


def content_of(file: BinaryIO, size: int) -> Content:
    """Inspects a file of `size` bytes; the default `Content` for unknown formats."""
    first = file.read(16)
    file.seek(0)
    if first[:4] in (b"RIFF", b"RIFX", b"RF64") and first[8:12] == b"WAVE":
        return _wav(file, size)
    if first[:4] in (b".snd", b"dns."):
        return _up_to(file, _au_end(file, size), size, "au")
    if first[:4] == b"caff":
        return _up_to(file, _caf_end(file, size), size, "caf")
    if first == W64_RIFF:
        return _up_to(file, _w64_end(file, size), size, "w64")
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
            return Content()  # no samples: the reader raises
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
        # A size of 0 is valid if other chunks follow.
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
    """Returns the header of a WAV (RF64 if needed) with the format chunks `ahead` and `size` bytes of samples."""
    body = 4 + len(ahead) + 8 + size
    if order == ">" or body < WRAPS - 1:
        return (b"RIFX" if order == ">" else b"RIFF") + struct.pack(f"{order}I4s{len(ahead)}s4sI", body, b"WAVE", ahead, b"data", size)
    large = struct.pack("<4sIQQQI", b"ds64", 28, body + 36, size, 0, 0)
    return struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE") + large + ahead + struct.pack("<4sI", b"data", 0xFFFFFFFF)


def _chunks_follow(file: BinaryIO, at: int, size: int, order: str) -> bool:
    """Returns whether only chunks or padding follow the samples."""
    for _ in range(MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return True
        if not any(head):  # silent samples, unless it is short padding at the end
            return size - at <= LARGEST_PADDING and not any(file.read())
        name, length = struct.unpack(f"{order}4sI", head)
        if not all(32 <= letter < 127 for letter in name) or at + 8 + length > size:
            return False
        at += 8 + length + length % 2
    return False


def _up_to(file: BinaryIO, end: int, size: int, suffix: str) -> Content:
    """Returns a window of the bytes that the header counts, with a note if more follow than padding."""
    if end >= size:
        return Content()
    file.seek(end)
    padding = size - end <= LARGEST_PADDING and not any(file.read())
    note = (
        f"{size - end} bytes follow the samples that its header counts and are not read; if they are another file, cut it out: "
        f"tail -c {size - end} FILE > REST.{suffix}"
    )
    return Content([Window(file, 0, end)], "" if padding else note)


def _au_end(file: BinaryIO, size: int) -> int:
    order = ">" if file.read(4) == b".snd" else "<"
    head = file.read(8)
    if len(head) < 8:
        return size
    offset, length = struct.unpack(f"{order}2I", head)
    return size if length in UNKNOWN_SIZES else offset + length


def _caf_end(file: BinaryIO, size: int) -> int:
    """Returns the end of the last chunk; `size` if there are no samples or their number is unknown."""
    at, samples = 8, False
    for _ in range(MOST_CHUNKS):
        file.seek(at)
        head = file.read(12)
        if len(head) < 12:
            break
        name, length = struct.unpack(">4sq", head)
        if not all(32 <= letter < 127 for letter in name) or not 0 <= length <= size - at - 12:
            break
        samples |= name == b"data"
        at += 12 + length
    return at if samples else size


def _w64_end(file: BinaryIO, size: int) -> int:
    """Returns the end by the size of the whole, or of the samples if that is larger; `size` if their number is unknown."""
    file.seek(16)
    whole, at = int.from_bytes(file.read(8), "little"), 40
    for _ in range(MOST_CHUNKS):
        file.seek(at)
        name, length = file.read(16), int.from_bytes(file.read(8), "little")
        if length <= 24:  # counted with these 24 bytes: nothing, or unknown
            break
        if name == W64_DATA:
            return max(whole, at + length)
        at += (length + 7) // 8 * 8
    return size


def _ogg(file: BinaryIO, size: int) -> Content:
    """Returns one window per link of a chain; a link begins at a page that opens a stream after one that does not."""
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
    """Cuts off an ID3v1 tag, on which libsndfile fails."""
    file.seek(max(0, size - ID3_BYTES))
    return Content([Window(file, 0, size - ID3_BYTES)]) if file.read(3) == b"TAG" else Content()


def _mp3(file: BinaryIO, size: int) -> Content:
    """Adds a frame count if it is missing or too small: libsndfile would stop at a guessed end."""
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
    # A frame of the same kind at the highest bit rate (for room), with a count larger than any file's.
    length = (144 if full else 72) * KBITS[full] * 1000 // rate
    first = (frame[:2] + bytes([14 << 4 | frame[2] & 0x0C]) + frame[3:4]).ljust(tag, b"\0") + struct.pack(
        ">4sII", b"Xing", 1, (1 << 31) - 1
    )
    return Content([Window(file, at, size, first.ljust(length, b"\0"))])
