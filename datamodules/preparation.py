"""Preparation of recordings: converts each to a shard, a file of mono 16-bit samples at one rate, listed in a manifest.

Preparation can be interrupted at any time (by a signal, a full disk, a power cut) and is resumed: a shard gets its name only when it is
complete and on disk, and its line in the manifest after that. A lock admits one process at a time.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from rich.progress import track

from datamodules.manifest import BLOCK, FORMAT, MANIFEST, Entry, entry_line, manifest_lines, read_manifest, root_of
from harmonicrnn.audio import stream_mono
from harmonicrnn.audio.reading import probe
from harmonicrnn.errors import UserError
from harmonicrnn.files import remove_parts, replacing
from harmonicrnn.process_lock import sole_process
from harmonicrnn.signals import leave_signals

FULL_SCALE = 32768
SHARD = ".pcm"
LONGEST_NAME = 255  # bytes, on common file systems
INLINE_BYTES = 32 << 20  # less is prepared faster than other processes start


def settings_of(root: Path, shards: Path, sample_rate: int) -> dict[str, Any]:
    """Return the settings that shards depend on, besides name, size and time of each source.

    If the shards are inside the folder of the recordings, its path is relative to them, so that both can be moved together.
    """
    root, shards = root.resolve(), shards.resolve()
    home = os.path.relpath(root, shards) if shards.is_relative_to(root) else str(root)
    libraries = {name: version(name) for name in ("soxr", "soundfile")}
    return {"format": FORMAT, "root": home, "sample_rate": sample_rate, "block": BLOCK, "libraries": libraries}


def shard_path(shards: Path, source: str) -> Path:
    """Return the path of a recording's shard (raw little-endian int16 samples, mono); a name that is too long is shortened."""
    path = shards / f"{source}{SHARD}"
    if len(os.fsencode(path.name)) <= LONGEST_NAME:
        return path
    name = os.fsencode(path.name)
    return path.with_name(f"{os.fsdecode(name[:100])}-{hashlib.sha256(name).hexdigest()[:32]}{SHARD}")


def prepare_shards(
    root: Path,
    splits: dict[str, list[Path]],
    shards: Path,
    sample_rate: int,
    *,
    processes: int = 1,
    skip_bad: bool = False,
    verify: bool = False,
) -> dict[str, Entry]:
    """Write the shards that are missing or out of date.

    Args:
        root: folder of the recordings; sources are relative to it.
        splits: files of each split.
        shards: folder of the shards.
        sample_rate: sample rate of the shards in Hz.
        processes: number of parallel processes.
        skip_bad: skip recordings that cannot be read and record the error in the manifest, instead of stopping at the first. They are
            retried only if they change or with `verify`.
        verify: check all shards against their checksums, and rewrite those that differ.

    Returns:
        manifest entry of each source.

    Raises:
        UserError: a recording cannot be read, the shards cannot be written or are of other recordings, or a process was killed.
    """
    settings = settings_of(root, shards, sample_rate)
    wanted = [_describe(root, path, split, skip_bad) for split, paths in splits.items() for path in paths]
    manifest = shards / MANIFEST
    if not verify:
        current, stale, _ = _sort_out(wanted, read_manifest(manifest, settings), shards, skip_bad, verify)
        if not stale:
            return current
    with _sole_worker(shards):
        remove_parts(shards)
        current, stale, damaged = _sort_out(wanted, read_manifest(manifest, settings), shards, skip_bad, verify)
        if damaged:
            rank_zero_warn(f"{len(damaged)} of {len(wanted)} shards are made again: {'; '.join(damaged)}")
        # Rewrite first, so that nothing is appended to a line left incomplete by a crash.
        _write(manifest, manifest_lines(settings, current.values()))
        if stale:
            rank_zero_info(f"Preparing {len(stale)} of {len(wanted)} recordings in {shards}")
            with manifest.open("a") as journal:
                results = _results(root, stale, shards, sample_rate, processes)
                for entry in track(results, "Preparing", total=len(stale), transient=True):
                    if entry.error and not skip_bad:
                        raise UserError(entry.error)
                    if entry.error:
                        rank_zero_warn(f"skipped: {entry.error}")
                    current[entry.source] = entry
                    journal.write(entry_line(entry))
                    journal.flush()
            _write(manifest, manifest_lines(settings, current.values()))
    return {entry.source: current[entry.source] for entry in wanted}


def home_of(shards: Path) -> Path | None:
    """Return the folder of the recordings of these shards; None if unknown."""
    try:
        with (shards / MANIFEST).open("rb") as file:
            root = root_of(file.readline())
    except OSError:
        return None
    return None if root is None else shards / root


def remove_shards(shards: Path) -> bool:
    """Remove a folder of shards, and return whether there was one.

    Raises:
        UserError: another process prepares shards there, or the folder cannot be removed.
    """
    if not (shards / MANIFEST).is_file():
        return False

    def refuse() -> None:
        raise UserError(f"{shards}: another process prepares recordings there; wait for it")

    try:
        with sole_process(shards / "lock", taken=refuse):
            shutil.rmtree(shards)
        if not any(shards.parent.iterdir()):
            shards.parent.rmdir()
    except OSError as error:
        raise UserError(f"{shards}: cannot be removed: {error.strerror or error}") from error
    return True


def _sort_out(
    wanted: Sequence[Entry], known: dict[str, Entry], shards: Path, skip_bad: bool, verify: bool
) -> tuple[dict[str, Entry], list[Entry], list[str]]:
    """Return the valid entries of the manifest, the recordings without one, and descriptions of damaged shards of unchanged recordings."""
    current, stale, damaged = {}, [], []
    for entry in wanted:
        old = known.get(entry.source)
        holds = old is not None and (old.size, old.modified) == (entry.size, entry.modified)
        if holds and old.error:
            holds = skip_bad and not verify
        elif holds and (damage := _damage(old, shards, verify)):
            damaged.append(f"{shard_path(shards, old.source)} {damage}")
            holds = False
        if holds:
            current[entry.source] = replace(old, split=entry.split)
        else:
            stale.append(entry)
    return current, stale, damaged


def _results(root: Path, stale: Sequence[Entry], shards: Path, sample_rate: int, processes: int) -> Iterator[Entry]:
    if processes == 1 or len(stale) == 1 or sum(entry.size for entry in stale) < INLINE_BYTES:
        for entry in stale:
            yield prepare_file(root, entry, shards, sample_rate)
        return
    others = active_children()
    # Fork is safe: children use numpy and libsndfile only, and not torch's threads, which do not survive a fork.
    pool = ProcessPoolExecutor(min(processes, len(stale)), mp_context=get_context("fork"), initializer=_follow_the_main_process)
    try:
        for future in as_completed([pool.submit(prepare_file, root, entry, shards, sample_rate) for entry in stale]):
            yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            f"{shards}: a process that prepares recordings was killed, possibly by the system for lack of memory; what was prepared is "
            "kept: prepare the rest with fewer processes (prepare --processes 1)"
        ) from error
    except KeyboardInterrupt:
        for child in active_children():
            if child not in others:
                child.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_the_main_process() -> None:
    """Make a worker ignore stop signals, which the main process handles, and exit when the main process ends."""
    leave_signals()
    main = parent_process()
    assert main is not None

    def watch() -> None:
        wait([main.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def prepare_file(root: Path, entry: Entry, shards: Path, sample_rate: int) -> Entry:
    """Write a recording's shard and return its completed entry, or an entry with `error` if the recording cannot be read.

    Raises:
        UserError: the shard cannot be written.
    """
    path, shard, overshoots = root / entry.source, shard_path(shards, entry.source), 0
    notes: list[str] = []
    try:
        with replacing(shard) as file:
            for piece in stream_mono(path, sample_rate, notes.append):
                levels = np.rint(piece * FULL_SCALE)
                overshoots += int(np.count_nonzero(np.abs(levels) > FULL_SCALE))
                file.write(np.clip(levels, -FULL_SCALE, FULL_SCALE - 1).astype("<i2").tobytes())
        low, high = [], []
        with shard.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            while len(block := np.fromfile(file, "<i2", BLOCK)):
                low.append(int(block.min()))
                high.append(int(block.max()))
    except UserError as error:
        return replace(entry, error=str(error))
    except OSError as error:
        raise UserError(f"{shards}: the shard of {path} cannot be written: {error.strerror or error}") from error
    source = probe(path)
    return replace(
        entry,
        rate=source.rate,
        channels=source.channels,
        length=shard.stat().st_size // 2,
        checksum=checksum,
        overshoots=overshoots,
        low=tuple(low),
        high=tuple(high),
        note="; ".join(notes),
    )


def _describe(root: Path, path: Path, split: str, skip_bad: bool) -> Entry:
    size, modified = 0, 0
    try:
        status = path.stat()
        size, modified = status.st_size, status.st_mtime_ns
    except OSError as error:
        if not skip_bad:  # otherwise skipped when it is read
            raise UserError(f"{path}: cannot be opened: {error.strerror}") from error
    return Entry(path.relative_to(root).as_posix(), size, modified, 0, 0, split)


def _damage(entry: Entry, shards: Path, verify: bool) -> str:
    """Return a description of the damage to a recording's shard; empty if there is none."""
    path = shard_path(shards, entry.source)
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != 2 * entry.length:
        return f"has {path.stat().st_size} bytes, was made with {2 * entry.length}"
    if not verify:
        return ""
    with path.open("rb") as file:
        return "" if hashlib.file_digest(file, "sha256").hexdigest() == entry.checksum else "differs from its checksum"


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


@contextmanager
def _sole_worker(shards: Path) -> Iterator[None]:
    """Lock a folder of shards, waiting for other processes."""
    try:
        shards.mkdir(parents=True, exist_ok=True)
        with sole_process(shards / "lock", taken=partial(rank_zero_info, f"Waiting for another process that prepares {shards}")):
            yield
    except OSError as error:
        raise UserError(
            f"{shards}: shards cannot be written there ({error.strerror or error}); choose another folder: --data.shards"
        ) from error
