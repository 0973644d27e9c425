"""What is known of the recordings that were prepared.

The manifest is a journal, `manifest.jsonl`: a first line of settings, then a line for each recording, written after its shard is whole.
Each of these carries its own checksum: one that a crash cut short, or that was damaged since, is dropped; a recording without a line is
prepared again.
"""

import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harmonicrnn.errors import UserError

FORMAT = 2
MANIFEST = "manifest.jsonl"
BLOCK = 16_384
"""Samples in a block of the extremes."""


@dataclass(frozen=True)
class Entry:
    """One recording.

    Args:
        source: The file, relative to the folder of the recordings.
        size: Of the source file in bytes.
        modified: When the source file was last changed, in ns.
        rate: Of the source in Hz.
        channels: Of the source.
        split: The split it belongs to when it was prepared.
        length: Samples in the shard.
        checksum: SHA-256 of the shard.
        overshoots: Samples that lay outside [-1, 1] once rounded to steps of 2^-15, and were clipped. 1 itself, which becomes the highest
            16-bit number, one step below, is not counted.
        low: The lowest sample of each block of the shard.
        high: The highest.
        error: Why it could not be prepared; then the fields after `split` are empty.
        note: What of it may be missing.
    """

    source: str
    size: int
    modified: int
    rate: int
    channels: int
    split: str
    length: int = 0
    checksum: str = ""
    overshoots: int = 0
    low: tuple[int, ...] = ()
    high: tuple[int, ...] = ()
    error: str = ""
    note: str = ""


def read_manifest(path: Path, settings: dict[str, Any]) -> dict[str, Entry]:
    """Entries by source; none where there is no manifest or it was made with other settings. Later lines supersede earlier ones.

    Raises:
        UserError: it is of other recordings, `settings["root"]`.
    """
    if not path.is_file():
        return {}
    first, *lines = path.read_bytes().split(b"\n")
    if first != _text(settings).encode():
        root, other = settings["root"], root_of(first)
        if other not in (None, root):
            here, there = (path.parent.joinpath(folder).resolve() for folder in (root, other))
            raise UserError(
                f"{path.parent}: holds the shards of the recordings in {there}, not of those in {here}; name another folder with "
                "--data.shards, or remove that one"
            )
        return {}
    return {entry.source: entry for entry in map(_entry, lines) if entry}


def manifest_lines(settings: dict[str, Any], entries: Iterable[Entry]) -> str:
    """The manifest's text."""
    return _text(settings) + "\n" + "".join(map(entry_line, entries))


def entry_line(entry: Entry) -> str:
    """An entry's line, with its end."""
    content = asdict(entry)
    return _text(content | {"crc32": _crc32(content)}) + "\n"


def root_of(settings: bytes) -> str | None:
    """The folder of the recordings, as a manifest's first line names it; None where it is damaged."""
    try:
        root = json.loads(settings)["root"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return root if isinstance(root, str) and "\0" not in root else None


def _entry(line: bytes) -> Entry | None:
    try:
        content = json.loads(line)
        if content.pop("crc32") == _crc32(content):
            return Entry(**content | {"low": tuple(content["low"]), "high": tuple(content["high"])})
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        pass  # whatever it is, it is no entry
    return None


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"))


def _crc32(content: dict[str, Any]) -> int:
    return zlib.crc32(_text(content).encode())
