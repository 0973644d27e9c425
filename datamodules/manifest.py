"""Manifest of prepared recordings, a journal in JSON lines.

The first line of `manifest.jsonl` has the settings. Then follows a line per recording, with a checksum, written after its shard is
complete. Incomplete and damaged lines are dropped; a recording without a line is prepared again.
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
"""Samples per block of `Entry.low` and `Entry.high`."""


@dataclass(frozen=True)
class Entry:
    """Entry of one recording.

    Args:
        source: Path relative to the folder of the recordings.
        size: Size of the source file in bytes.
        modified: Modification time of the source file in ns.
        rate: Sample rate of the source in Hz.
        channels: Channels of the source.
        split: Split of the recording when it was prepared.
        length: Samples in the shard.
        checksum: SHA-256 of the shard.
        overshoots: Samples clipped as they were outside [-1, 1] after rounding to steps of 2^-15; 1 itself, stored one step lower as the
            highest 16-bit number, is not counted.
        low: Minimum of each block of the shard, int16.
        high: Maximum of each block of the shard, int16.
        error: Why the recording could not be prepared; then the fields after `split` are empty.
        note: Warning about parts that may be missing.
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
    """Read the entries by source; empty if there is no manifest or it has other settings. Later lines override earlier ones.

    Raises:
        UserError: the manifest is of recordings in another folder than `settings["root"]`.
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
    """Return the text of a manifest."""
    return _text(settings) + "\n" + "".join(map(entry_line, entries))


def entry_line(entry: Entry) -> str:
    """Return the line of an entry, with newline."""
    content = asdict(entry)
    return _text(content | {"crc32": _crc32(content)}) + "\n"


def root_of(settings: bytes) -> str | None:
    """Return the folder of the recordings from the first line of a manifest; None if the line is damaged."""
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
        pass  # not a valid entry
    return None


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"))


def _crc32(content: dict[str, Any]) -> int:
    return zlib.crc32(_text(content).encode())
